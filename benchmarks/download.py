"""Measure the download of cutouts against a plain streaming copy of the same bytes from the same server.

    python benchmarks/download.py                      20,000 objects in five bands, four connections
    python benchmarks/download.py --objects 2000       a quick look

A server on loopback (tests/servers/hsc_server.py, a process of its own) answers as fast as it can. The *copy* sends the
same requests over the same number of connections with the same HTTP client and writes each answer to a file, unread.
The *download* is what a job of the workflow does: every member checked, hashed, stored and journalled, then the chunk's
tar and ledger written in catalog order and kept for next time. Both run in processes of their own, one a connection,
their start not counted; both delete a chunk's files when it is done.

Printed: rates and their ratio (wanted: at least 0.80), the largest memory of one process (wanted: under 300 MB) and of
all together, and the file descriptors open after the first and the last chunk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from tidalkin.config import PIXEL_SCALE_ARCSEC, Cutouts, HscDas
from tidalkin.sources.chunk import write_chunk
from tidalkin.sources.hsc_account import Account
from tidalkin.sources.hsc_das import HscDasSource, chunk_lines, request_list, server_order

SERVER = Path(__file__).resolve().parents[1] / "tests" / "servers" / "hsc_server.py"
ACCOUNT = Account("astronomer", SecretStr("a-very-secret-passphrase"), "the benchmark")


@dataclass(frozen=True)
class Measured:
    """One worker, or all of them together."""

    seconds: float
    bytes: int
    memory: int
    """Largest resident memory, bytes."""
    unique_memory: int
    """Memory at the end that is not shared with other processes, bytes."""
    descriptors: tuple[int, int]
    """Open after the first chunk and after the last."""
    complete: bool


def chunk(number: int, size: int) -> pd.DataFrame:
    """Catalog rows of one chunk, in no order a server would like."""
    generator = np.random.default_rng(number)
    object_id = number * size + np.arange(size)
    return pd.DataFrame(
        {"object_id": object_id, "ra": generator.uniform(30, 40, size), "dec": generator.uniform(-7, 2, size)}
    )


def copy_chunk(objects: pd.DataFrame, cutouts: Cutouts, folder: Path, client: httpx.Client) -> tuple[int, bool]:
    """Write the answers to a chunk's requests to a file; return its bytes."""
    das = cutouts.hsc_das
    lines = server_order(chunk_lines(objects, cutouts.bands, das, cutouts.size_pixels))
    path = folder / "copy"
    with path.open("wb") as file:
        for start in range(0, len(lines), das.lines_per_request):
            files = {"list": ("coordlist.txt", request_list(lines[start : start + das.lines_per_request]))}
            with client.stream("POST", das.url + "/cgi-bin/cutout", files=files) as response:
                response.raise_for_status()
                for piece in response.iter_raw():
                    file.write(piece)
    size = path.stat().st_size
    path.unlink()
    return size, True


def download_chunk(objects: pd.DataFrame, cutouts: Cutouts, folder: Path, slots: Path) -> tuple[int, bool]:
    """Make a chunk as the workflow's job does; return the bytes of its tar, and whether every cutout is there."""
    tar = folder / "chunk.tar"
    source = HscDasSource(cutouts, folder / "received", ACCOUNT, slots)
    ledger = write_chunk(
        source.deliver(objects, cutouts.bands), objects, cutouts.bands, tar, folder / "chunk.ledger.parquet"
    )
    source.keep(objects, cutouts.bands, tar, ledger)
    size = tar.stat().st_size
    shutil.rmtree(folder)
    folder.mkdir()
    return size, bool((ledger["status"] == "ok").all())


Worker = Callable[[pd.DataFrame, Cutouts, Path], tuple[int, bool]]


def work(
    kind: str, chunks: list[int], size: int, cutouts: Cutouts, folder: Path, start: object, results: object
) -> None:
    """What one process does: its chunks, one after the other."""
    mine = folder / str(os.getpid())
    mine.mkdir()
    auth = httpx.BasicAuth(ACCOUNT.user, ACCOUNT.password.get_secret_value())
    with httpx.Client(auth=auth, timeout=60) as client:
        run: Worker = (
            partial(copy_chunk, client=client) if kind == "copy" else partial(download_chunk, slots=folder / "slots")
        )
        process = psutil.Process()
        start.wait()
        began, total, complete, descriptors = time.perf_counter(), 0, True, []
        for number in chunks:
            n_bytes, is_whole = run(chunk(number, size), cutouts, mine)
            total += n_bytes
            complete &= is_whole
            descriptors.append(process.num_fds())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put(
        Measured(
            time.perf_counter() - began,
            total,
            memory,
            process.memory_full_info().uss,
            (descriptors[0], descriptors[-1]),
            complete,
        )
    )


@contextmanager
def server() -> Iterator[str]:
    """The cutout server in a process of its own; yields its address."""
    command = [sys.executable, str(SERVER), "--seconds", "3600"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def measure(kind: str, n_chunks: int, size: int, cutouts: Cutouts, folder: Path) -> Measured:
    """Run all chunks of one kind, in as many processes as there are connections."""
    context = multiprocessing.get_context("spawn")
    connections = cutouts.hsc_das.connections
    start, results = context.Barrier(connections + 1), context.Queue()
    numbers = [list(range(first, n_chunks, connections)) for first in range(connections)]
    workers = [
        context.Process(target=work, args=(kind, mine, size, cutouts, folder, start, results)) for mine in numbers
    ]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    measured = [results.get() for _ in workers]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    most = max(measured, key=lambda one: one.descriptors[1] - one.descriptors[0])
    return Measured(
        seconds,
        sum(one.bytes for one in measured),
        max(one.memory for one in measured),
        sum(one.unique_memory for one in measured),
        most.descriptors,
        all(one.complete for one in measured),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--chunk", type=int, default=500, help="objects per chunk")
    parser.add_argument("--pixels", type=int, default=32, help="side of a cutout")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured, in turn; the best counts")
    arguments = parser.parse_args()
    n_chunks = max(arguments.connections, arguments.objects // arguments.chunk)
    best: dict[str, Measured] = {}
    with server() as url, tempfile.TemporaryDirectory() as folder:
        das = HscDas(url=url, connections=arguments.connections)
        cutouts = Cutouts(size_arcsec=arguments.pixels * PIXEL_SCALE_ARCSEC, hsc_das=das)
        for _ in range(arguments.rounds):
            for kind in ("copy", "download"):
                one = measure(kind, n_chunks, arguments.chunk, cutouts, Path(folder))
                best[kind] = min(one, best.get(kind, one), key=lambda measured: measured.seconds)
    print_table(best, n_chunks * arguments.chunk, arguments)


def print_table(best: dict[str, Measured], n_objects: int, arguments: argparse.Namespace) -> None:
    """Print what was measured."""
    copy, download = best["copy"], best["download"]
    table = Table(title=f"{n_objects} objects x 5 bands, {arguments.pixels} px, {arguments.connections} connections")
    for column in ("", "MB", "s", "MB/s", "cutouts/s", "largest memory, MB", "all together, MB", "descriptors"):
        table.add_column(column, justify="right")
    for kind, one in best.items():
        table.add_row(
            kind,
            f"{one.bytes / 1e6:.0f}",
            f"{one.seconds:.1f}",
            f"{one.bytes / 1e6 / one.seconds:.0f}",
            f"{5 * n_objects / one.seconds:.0f}",
            f"{one.memory / 1e6:.0f}",
            f"{one.unique_memory / 1e6:.0f}",
            f"{one.descriptors[0]} -> {one.descriptors[1]}",
        )
    console = Console()
    console.print(table)
    console.print(f"download : copy = {download.bytes / download.seconds / (copy.bytes / copy.seconds):.2f} (>= 0.80)")
    console.print(f"every cutout is there: {'yes' if download.complete else 'NO'}")


if __name__ == "__main__":
    main()
