"""Time the explorer of a made-up survey: ``python benchmarks/explorer_speed.py --galaxies 500000``.

It makes a catalog, vectors, an index, a ranking, debris maps, a map and some labels of random galaxies. Only the first
shards have images, and thumbnails are drawn of those. Then it starts ``tidalkin explore`` and asks as the page does.
It prints the median and the 99th percentile of the times, beside the aims, and the mean processor time of the server,
which a busy machine changes less. ``--folder`` keeps the survey for the next time. The time until the page is ready
needs Chromium and the package playwright.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import numpy as np
import pandas as pd
import psutil
import typer

from tidalkin.catalog.read import write_catalog
from tidalkin.config import BANDS, Images, Index
from tidalkin.embedding.whitening import Whitening, join_debris_score
from tidalkin.explorer.labels import LabelBook, new_mark
from tidalkin.explorer.projection import write_map
from tidalkin.images.store import ImageStore, Shard
from tidalkin.index.build import build_index
from tidalkin.search.files import RunFiles

if TYPE_CHECKING:
    from playwright.sync_api import Page

DIMENSIONS = 24
IMAGES = Images(size=96, shard_size=1024)
SHARD_ROWS = 8192
"""Vectors of a file."""
SHARDS_WITH_IMAGES = 4
DRAWN = SHARDS_WITH_IMAGES * IMAGES.shard_size
"""Galaxies with images."""
LISTED = 48
MAP_SIDE = 12
MOST_WITH_MAPS = 1_000_000
LABELLED = 1000
PAGES = 10
MILLISECONDS_TO_WAIT = 120_000
FIRST_ID = 10**15
AIMS = {"page ready": 2.0, "search": 0.1, "rank after a mark": 0.2, "sheet of 48 thumbnails": 0.15}


def make_run(run: Path, n_galaxies: int, kind: str) -> None:
    """Make up a finished run."""
    files, random = RunFiles.of(run), np.random.default_rng(1)
    run.mkdir(parents=True)
    ids = FIRST_ID + np.arange(n_galaxies)
    ra, dec = random.uniform(0, 360, n_galaxies), random.uniform(-5, 5, n_galaxies)
    magnitude = random.uniform(18, 24, n_galaxies).astype(np.float32)
    write_catalog(pd.DataFrame({"object_id": ids, "ra": ra, "dec": dec, "magnitude": magnitude}), files.catalog)
    score = random.standard_normal(n_galaxies).astype(np.float32)
    # The page starts with the highest scores, which need images.
    first_page = random.choice(min(n_galaxies, DRAWN), LISTED, replace=False)
    score[first_page] = score.max() + np.linspace(0.1, 1, LISTED)
    best = np.argsort(-score, kind="stable")
    pd.DataFrame({"object_id": ids[best], "debris_score": score[best]}).to_parquet(files.ranking)
    vectors = _write_vectors(files, ids, score, random)
    build_index(vectors, Index(kind=kind), files.index, seed=1)
    write_map(vectors, run / "map.parquet", "pca", seed=1)
    directions = np.eye(DIMENSIONS - 1, dtype=np.float32)
    Whitening(directions[0], directions, directions[0] + 1, np.array([0, 1], np.float32), "").save(files.whitening)
    _write_images(files.images, ids, random)
    book = LabelBook(run / "labels")
    chosen = random.choice(n_galaxies, LABELLED, replace=False)
    book.extend([new_mark(int(ids[row]), "tidal" if score[row] > 0.5 else "not", "ada") for row in chosen])


def _write_vectors(files: RunFiles, ids: np.ndarray, score: np.ndarray, random: np.random.Generator) -> list[Path]:
    """Write vectors around a thousand centres, and debris maps of a small survey."""
    files.embeddings.mkdir()
    centres = random.standard_normal((1000, DIMENSIONS - 1)).astype(np.float32)
    written = []
    for shard, first in enumerate(range(0, len(ids), SHARD_ROWS)):
        part = slice(first, first + SHARD_ROWS)
        n = len(ids[part])
        near = centres[random.integers(len(centres), size=n)]
        raw = near + random.standard_normal((n, DIMENSIONS - 1)).astype(np.float32)
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        written.append(files.embeddings / f"{shard:05d}.npy")
        np.save(written[-1], join_debris_score(unit, score[part]))
        np.save(written[-1].with_suffix(".ids.npy"), ids[part])
        if len(ids) <= MOST_WITH_MAPS:
            maps = random.standard_normal((n, MAP_SIDE, MAP_SIDE)).astype(np.float16)
            np.save(written[-1].with_suffix(".debris_map.npy"), maps)
    return written


def _write_images(path: Path, ids: np.ndarray, random: np.random.Generator) -> None:
    """Lay out a store of all galaxies with the images of the first shards."""
    store = ImageStore.create(path, objects=len(ids), bands=BANDS, images=IMAGES)
    store.object_id[:] = ids
    for values in (store.sky_sigma, store.psf_fwhm, store.good_fraction):
        values[:] = 1
    rows = min(IMAGES.shard_size, len(ids))
    for shard in range(min(SHARDS_WITH_IMAGES, store.n_shards)):
        part = ids[store.rows_of(shard)]
        flux = random.standard_normal((rows, len(BANDS), IMAGES.size, IMAGES.size), np.float32)[: len(part)]
        ones = np.ones((len(part), len(BANDS)), np.float32)
        store.write(shard, Shard(flux, ones, ones, ones, part))


@contextmanager
def explorer(run: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the run, and yield the link and the process."""
    command = [sys.executable, "-c", "from tidalkin.cli import main; main()", "explore", str(run)]
    with subprocess.Popen([*command, "--no-browser", "--who", "ada"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        link = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        try:
            yield link, psutil.Process(server.pid)
        finally:
            server.terminate()


class Clock:
    """The times of actions, by name."""

    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def time(self, name: str, action: Callable[[], object]) -> None:
        """Time an action, and the processor time that the server needs for it."""
        before, begun = self._used(), time.perf_counter()
        action()
        self.seconds.setdefault(name, []).append(time.perf_counter() - begun)
        self.processor.setdefault(name, []).append(self._used() - before)

    def _used(self) -> float:
        used = self._server.cpu_times()
        return float(used.user + used.system)

    def table(self) -> str:
        """Write all but the first time of each action as a table."""
        lines = ["| | p50 | p99 | processor | the first | aim |", "| --- | --- | --- | --- | --- | --- |"]
        for name, (first, *seconds) in self.seconds.items():
            middle, high = 1000 * np.percentile(seconds, [50, 99])
            processor = 1000 * np.mean(self.processor[name][1:])
            aim = f"{1000 * AIMS[name]:.0f} ms" if name in AIMS else ""
            lines.append(
                f"| {name} | {middle:.0f} ms | {high:.0f} ms | {processor:.0f} ms | {1000 * first:.0f} ms | {aim} |"
            )
        return "\n".join(lines)


def measure(clock: Clock, client: httpx.Client, n_galaxies: int, repeats: int) -> None:
    """Ask as the page does."""
    # A survey that was kept has the marks of earlier runs. To give them again would change nothing in the ranking.
    random = np.random.default_rng()

    def ask(name: str, path: str, **params: object) -> None:
        clock.time(name, lambda: client.get(f"/api/{path}", params=params).raise_for_status())

    def some(n: int) -> list[int]:
        return (FIRST_ID + random.choice(min(n_galaxies, n), LISTED, replace=False)).tolist()

    for repeat in range(repeats + 1):
        like = int(FIRST_ID + random.integers(n_galaxies))
        mark = {"uuid": str(uuid.uuid4()), "object_id": like, "label": ("tidal", "not")[repeat % 2]}
        corner = random.uniform(0.2, 0.6)
        triangle = [corner, 0.3, corner + 0.2, 0.3, corner + 0.1, 0.5]
        ask("first list", "galaxies")
        ask("search", "galaxies", start="similar", like=like)
        ask("search with 3 examples", "galaxies", start="similar", like=[like, FIRST_ID, FIRST_ID + 1])
        ask("sheet of 48 thumbnails", "sheet.jpg", id=some(DRAWN))
        if n_galaxies <= MOST_WITH_MAPS:
            ask("debris maps of 48", "maps.png", id=some(n_galaxies))
        ask("galaxy's details", "galaxy", id=like)
        clock.time("mark", lambda mark=mark: client.post("/api/marks", json=[mark]).raise_for_status())
        ask("rank after a mark", "galaxies", start="rank")
        ask("offers", "offers")
        ask("progress", "progress")
        ask("lasso", "galaxies", start="lasso", polygon=triangle)
        ask("nearest on the map", "map/nearest", x=corner, y=corner)


def open_pages(clock: Clock, link: str, repeats: int) -> None:
    """Time from opening the link until the first sheet is drawn."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repeats + 1):
            page = browser.new_context(viewport={"width": 1300, "height": 850}).new_page()
            page.set_default_timeout(MILLISECONDS_TO_WAIT)
            clock.time("page ready", lambda page=page: _open(page, link))
            page.context.close()
        browser.close()


def _open(page: Page, link: str) -> None:
    page.goto(link)
    page.wait_for_function(
        "() => (document.querySelector('.tile .picture')?.style.backgroundImage ?? 'none') !== 'none'"
    )


def main(
    galaxies: int = 500_000,
    repeats: int = 30,
    kind: Annotated[str, typer.Option(help="Kind of index; see index.kind.")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="Keep the survey here.")] = None,
    browser: Annotated[bool, typer.Option(help="Time the page in Chromium, too.")] = True,
) -> None:
    """Make the survey, start the explorer and time it."""
    with tempfile.TemporaryDirectory() as temporary:
        run = (folder or Path(temporary)) / "results" / f"galaxies-{galaxies}"
        begun = time.perf_counter()
        if not run.exists():
            make_run(run, galaxies, kind)
            print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
            begun = time.perf_counter()
        with explorer(run) as (link, process):
            started = time.perf_counter() - begun
            processor = process.cpu_times()
            clock = Clock(process)
            if browser:
                open_pages(clock, link, PAGES)
            with httpx.Client(base_url=link.split("/?")[0], timeout=600) as client:
                client.get("/", params={"token": link.split("token=")[1]})
                measure(clock, client, galaxies, repeats)
            memory = process.memory_info().rss
    print(f"\n{galaxies:,} galaxies, {LABELLED} labels. The server started in {started:.1f} s, with")
    print(f"{processor.user + processor.system:.1f} s of the processor, and took {memory / 2**20:.0f} MiB of memory.\n")
    print(clock.table())


if __name__ == "__main__":
    typer.run(main)
