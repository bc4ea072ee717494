"""Compare the download of cutouts with a plain streaming copy of the same bytes.

    python benchmarks/download.py                              20,000 objects in five bands, four connections: 22 GB
    python benchmarks/download.py --objects 2000 --rounds 5    a quick look

A server on loopback (tests/servers/hsc_server.py, a process of its own) answers as fast as it can, or no faster than
``--megabytes-per-second`` on each connection. Four programs run in turn, each in processes of its own, whose start is
not counted. The same requests go over the same number of connections with the same HTTP client, and the files of a
chunk are deleted when it is done. With more ``--jobs`` than connections, one job can start or end while others use the
line.

- *copy* writes each answer to a file, unread.
- *hashed copy* also computes SHA-256. A download need not, because XXH3 detects damage as well.
- *receive* checks every member, packs it into the chunk's tar and records it in the journal.
- *download* is a job of the workflow, which also writes the ledger and links the tar to its place.

The output has these columns:

- the rates and their ratio to the copy, which should be at least 0.80
- the processor time per cutout of the jobs and of the server, and the ratio of both together. At the server's full
  speed on few cores it limits all four programs, and other work on the machine does not disturb it
- the largest memory of a job, which should be under 300 MB
- the largest number of file descriptors that a job gained between its first chunk and its last
"""

from __future__ import annotations

import argparse
import hashlib
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
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from tidalkin.config import Cutouts, HscDas, HscDasTransport
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.download.credentials import Account
from tidalkin.sources.fetch import fetch_chunk
from tidalkin.sources.hsc.cutout_server import cutout_requests, in_server_order, request_list
from tidalkin.sources.hsc.das import HscDasSource

SERVER = Path(__file__).resolve().parents[1] / "tests" / "servers" / "hsc_server.py"
ACCOUNT = Account("astronomer", SecretStr("a-very-secret-passphrase"), "the benchmark")


@dataclass(frozen=True)
class Measured:
    """One worker, or all of them together."""

    seconds: float
    bytes: int
    processor_seconds: float
    memory: int
    """Largest resident memory of a process, bytes."""
    descriptors_gained: int
    """Open after the last chunk, less those after the first."""
    complete: bool
    server_seconds: float = 0.0
    """Processor time of the server meanwhile."""


def chunk(number: int, size: int) -> pd.DataFrame:
    """Make catalog rows of one chunk, in random order."""
    generator = np.random.default_rng(number)
    object_id = number * size + np.arange(size)
    return pd.DataFrame(
        {"object_id": object_id, "ra": generator.uniform(30, 40, size), "dec": generator.uniform(-7, 2, size)}
    )


def copy_chunk(objects: pd.DataFrame, cutouts: Cutouts, folder: Path, hashed: bool) -> tuple[int, bool]:
    """Write the answers to a chunk's requests to a file; return its bytes."""
    digest = hashlib.sha256()
    das = cutouts.hsc_das
    lines = in_server_order(cutout_requests(objects, cutouts.bands, das, cutouts.size_pixels))
    path = folder / "copy"
    with httpx.Client(auth=ACCOUNT.auth(), timeout=60) as client, path.open("wb") as file:
        for start in range(0, len(lines), das.transport.lines_per_request):
            files = {"list": ("coordlist.txt", request_list(lines[start : start + das.transport.lines_per_request]))}
            with client.stream("POST", das.url + "/cgi-bin/cutout", files=files) as response:
                response.raise_for_status()
                for piece in response.iter_raw():
                    file.write(piece)
                    if hashed:
                        digest.update(piece)
    size = path.stat().st_size
    path.unlink()
    return size, True


def receive_chunk(objects: pd.DataFrame, cutouts: Cutouts, folder: Path, lock_folder: Path) -> tuple[int, bool]:
    """Receive a chunk to disk; return its bytes, and whether every cutout is there."""
    source = HscDasSource(cutouts, folder / "received", ACCOUNT, lock_folder)
    # The first cutout comes when everything is received.
    first = next(source.fetch(objects, cutouts.bands))
    size = first.location.tar.stat().st_size
    _empty(folder)
    return size, first.status == "ok"


def download_chunk(objects: pd.DataFrame, cutouts: Cutouts, folder: Path, lock_folder: Path) -> tuple[int, bool]:
    """Make a chunk as the workflow's job does.

    Returns the bytes of its tar, and whether every cutout is there.
    """
    tar = folder / "chunk.tar"
    ledger = fetch_chunk(objects, cutouts, 0, tar, folder / "chunk.ledger.parquet", ACCOUNT, lock_folder)
    size = tar.stat().st_size
    _empty(folder)
    return size, bool((ledger["status"] == "ok").all())


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


Worker = Callable[[pd.DataFrame, Cutouts, Path], tuple[int, bool]]


def work(
    kind: str, chunks: list[int], size: int, cutouts: Cutouts, folder: Path, start: Barrier, results: Queue
) -> None:
    """Process the chunks of one job, one after the other."""
    mine = folder / str(os.getpid())
    mine.mkdir()
    kinds: dict[str, Worker] = {
        "copy": partial(copy_chunk, hashed=False),
        "hashed copy": partial(copy_chunk, hashed=True),
        "receive": partial(receive_chunk, lock_folder=folder / "locks"),
        "download": partial(download_chunk, lock_folder=folder / "locks"),
    }
    process = psutil.Process()
    start.wait()
    began, processor_began = time.perf_counter(), time.process_time()
    total, complete, descriptors = 0, True, []
    for number in chunks:
        n_bytes, is_whole = kinds[kind](chunk(number, size), cutouts, mine)
        total += n_bytes
        complete &= is_whole
        descriptors.append(process.num_fds())
    results.put(
        Measured(
            seconds=time.perf_counter() - began,
            bytes=total,
            processor_seconds=time.process_time() - processor_began,
            memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            descriptors_gained=descriptors[-1] - descriptors[0],
            complete=complete,
        )
    )


@contextmanager
def server(megabytes_per_second: float | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """Start the cutout server; yield its address and its process."""
    command = [sys.executable, str(SERVER), "--seconds", "3600"]
    if megabytes_per_second:
        command += ["--bytes-per-second", str(megabytes_per_second * 1e6)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
        process.stdin.close()


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def measure(
    kind: str, n_jobs: int, n_chunks: int, size: int, cutouts: Cutouts, folder: Path, serving: psutil.Process
) -> Measured:
    """Run all chunks of one kind in ``n_jobs`` processes."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(n_jobs + 1), context.Queue()
    numbers = [list(range(first, n_chunks, n_jobs)) for first in range(n_jobs)]
    workers = [
        context.Process(target=work, args=(kind, mine, size, cutouts, folder, start, results)) for mine in numbers
    ]
    for worker in workers:
        worker.start()
    start.wait()
    began, served = time.perf_counter(), processor_seconds(serving)
    measured = [results.get() for _ in workers]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return Measured(
        seconds=seconds,
        bytes=sum(one.bytes for one in measured),
        processor_seconds=sum(one.processor_seconds for one in measured),
        memory=max(one.memory for one in measured),
        descriptors_gained=max(one.descriptors_gained for one in measured),
        complete=all(one.complete for one in measured),
        server_seconds=processor_seconds(serving) - served,
    )


def processor(one: Measured) -> float:
    """Add the processor time of jobs and server, s."""
    return one.processor_seconds + one.server_seconds


def better(one: Measured, other: Measured) -> Measured:
    """Combine the least disturbed of two rounds, in wall-clock and in processor time."""
    least = min(one, other, key=processor)
    return replace(
        min(one, other, key=lambda measured: measured.seconds),
        processor_seconds=least.processor_seconds,
        server_seconds=least.server_seconds,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--chunk", type=int, default=500, help="objects per chunk")
    parser.add_argument(
        "--pixels", type=int, default=128, help="side of a cutout; headers and their checks weigh more in small ones"
    )
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=0, help="processes of the download, if more than connections")
    parser.add_argument("--megabytes-per-second", type=float, help="the server's limit for each connection")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured, in turn; the best counts")
    arguments = parser.parse_args()
    n_chunks = max(arguments.connections, arguments.jobs, arguments.objects // arguments.chunk)
    best: dict[str, Measured] = {}
    with server(arguments.megabytes_per_second) as (url, serving), tempfile.TemporaryDirectory() as folder:
        das = HscDas(url=url, transport=HscDasTransport(connections=arguments.connections))
        cutouts = Cutouts(source="hsc_das", size_arcsec=arguments.pixels * PIXEL_SCALE_ARCSEC, hsc_das=das)
        for _ in range(arguments.rounds):
            for kind in ("copy", "hashed copy", "receive", "download"):
                n_jobs = arguments.connections if "copy" in kind else max(arguments.connections, arguments.jobs)
                one = measure(kind, n_jobs, n_chunks, arguments.chunk, cutouts, Path(folder), serving)
                best[kind] = better(one, best.get(kind, one))
    print_table(best, n_chunks * arguments.chunk, arguments)


def print_table(best: dict[str, Measured], n_objects: int, arguments: argparse.Namespace) -> None:
    """Print what was measured."""
    limit = f"{arguments.megabytes_per_second} MB/s each" if arguments.megabytes_per_second else "full speed"
    size = f"{n_objects} objects x 5 bands, {arguments.pixels} px"
    table = Table(title=f"{size}, {arguments.connections} connections, {limit}, {os.cpu_count()} cores")
    for column in (
        "",
        "MB",
        "s",
        "MB/s",
        "ratio",
        "CPU, us/cutout",
        "server",
        "CPU ratio",
        "memory, MB",
        "fds gained",
        "complete",
    ):
        table.add_column(column, justify="right")
    for kind, one in best.items():
        table.add_row(
            kind,
            f"{one.bytes / 1e6:.0f}",
            f"{one.seconds:.1f}",
            f"{one.bytes / 1e6 / one.seconds:.0f}",
            f"{best['copy'].seconds / one.seconds:.2f}",
            f"{one.processor_seconds / (5 * n_objects) * 1e6:.0f}",
            f"{one.server_seconds / (5 * n_objects) * 1e6:.0f}",
            f"{processor(best['copy']) / processor(one):.2f}",
            f"{one.memory / 1e6:.0f}",
            str(one.descriptors_gained),
            "yes" if one.complete else "NO",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
