"""Measure recall, speed, size and memory of kinds of index, on vectors like the pipeline's.

    python benchmarks/index.py 100000 1000000
    python benchmarks/index.py 10000000 --kind auto --embeddings results/hsc/embeddings

If a folder of real embeddings is given, vectors are drawn from their distribution. Each is a real vector that is moved
at random within the scatter of its nearest neighbours (a Parzen window along the manifold, Vincent & Bengio 2003).
Without a folder, vectors are a random smooth function of 16 latent parameters, like a galaxy's magnitude, size and
colours, plus noise, and are whitened as in the pipeline. Like real embeddings they are noisy, which makes neighbours
harder to find.

*User queries* are vectors whose first dimensions, those of the host galaxy, are weighted by 0.1. They ask for 48
neighbours, as a search with `config/hsc_pdr3.yaml` does. Their neighbours are not those that an index is tuned to find.

Every kind is built and searched in a process of its own. Its peak of resident memory includes pages of mapped files.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from tidalkin import config
from tidalkin.index.build import build_index
from tidalkin.index.query import QUERY_DEPTH_FACTOR, open_index
from tidalkin.index.report import RECALL_AT
from tidalkin.index.tune import exact_neighbours, recall
from tidalkin.index.vectors import Embeddings

Vectors = npt.NDArray[np.float32]
Result = TypeVar("Result")

SHARD_ROWS = 100_000
LATENT, HIDDEN, FEATURES = 16, 512, 512
NEIGHBOURS = 10
HOST_DIRECTIONS, HOST_WEIGHT, ANSWERS = 8, 0.1, 48  # of a user query, as in config/hsc_pdr3.yaml
PEER = "hnswlib"


@dataclass(frozen=True)
class Row:
    """Measurements of one kind of index."""

    kind: str
    recall_at_10: float
    p50_ms: float
    p99_ms: float
    query_recall: float
    query_p50_ms: float
    build_seconds: float
    build_gib: float
    search_gib: float
    bytes_per_vector: float


# --- vectors -----------------------------------------------------------------------------------------------------


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def latent_vectors(n: int, dimensions: int, noise: float) -> Iterator[Vectors]:
    """Draw whitened random features of latent parameters, shard by shard."""
    random = np.random.default_rng(1)
    to_hidden = random.standard_normal((LATENT, HIDDEN), dtype=np.float32) * np.float32(1.5 / LATENT**0.5)
    offset = random.uniform(-1, 1, HIDDEN).astype(np.float32)
    to_features = random.standard_normal((HIDDEN, FEATURES), dtype=np.float32) / np.float32(HIDDEN**0.5)

    def features(rows: int) -> Vectors:
        latent = random.standard_normal((rows, LATENT), dtype=np.float32)
        smooth = np.maximum(np.maximum(latent @ to_hidden + offset, 0) @ to_features, 0)
        return smooth + np.float32(noise * smooth.std()) * random.standard_normal(smooth.shape, dtype=np.float32)

    sample = features(20_000)
    variance, components = np.linalg.eigh(np.cov(sample.T))
    whiten = (components[:, ::-1][:, :dimensions] / np.sqrt(variance[::-1][:dimensions])).astype(np.float32)
    for first in range(0, n, SHARD_ROWS):
        yield _unit((features(min(SHARD_ROWS, n - first)) - sample.mean(axis=0)) @ whiten)


def resampled_vectors(n: int, real: Embeddings) -> Iterator[Vectors]:
    """Draw real vectors, each moved within the scatter of its neighbours, shard by shard."""
    random = np.random.default_rng(1)
    rows = np.sort(random.choice(len(real), min(len(real), SHARD_ROWS), replace=False))
    sample = real.rows(rows)
    neighbours = _neighbours(sample)
    for first in range(0, n, SHARD_ROWS):
        chosen = random.integers(0, len(sample), min(SHARD_ROWS, n - first))
        moved = sample[chosen].copy()
        for near in neighbours[chosen].T:
            step = random.standard_normal((len(chosen), 1), dtype=np.float32) / np.float32(NEIGHBOURS**0.5)
            moved += step * (sample[near] - sample[chosen])
        yield _unit(moved)


def _neighbours(sample: Vectors) -> npt.NDArray[np.int64]:
    """Find the rows of the nearest neighbours of each vector, (row, neighbour)."""
    import faiss

    _, found = faiss.knn(sample, sample, NEIGHBOURS + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(found[:, 1:])


def write_shards(vectors: Iterator[Vectors], folder: Path) -> list[Path]:
    """Write float16 shards with ids, like the embedding's, one in memory at a time."""
    folder.mkdir(parents=True)
    files, first = [], 0
    for shard, part in enumerate(vectors):
        files.append(folder / f"{shard:05d}.npy")
        np.save(files[-1], part.astype(np.float16))
        np.save(files[-1].with_suffix(".ids.npy"), np.arange(first, first + len(part)))
        first += len(part)
    return files


# --- measuring ---------------------------------------------------------------------------------------------------


def _peak_gib() -> float:
    """Return the peak of this process's resident memory, GiB.

    This is VmHWM, because ru_maxrss includes the parent's memory before the start.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # bytes on macOS


def _build(files: list[Path], kind: str, directory: Path, queries: int) -> tuple[float, float]:
    """Measure seconds and peak GiB of building, including the exact search for the report."""
    started = time.monotonic()
    build_index(files, config.Index(kind=kind, queries=queries), directory, seed=1)
    return time.monotonic() - started, _peak_gib()


def _search(files: list[Path], directory: Path, queries: int) -> tuple[float, float, float]:
    """Measure the search in a process of its own.

    Returns median and 99th percentile of a query's time, ms, and the peak of memory, GiB.
    """
    opened = open_index(directory, files[0].parent)
    rows = np.random.default_rng(2).integers(0, len(opened.ids), queries)
    vectors = opened.vectors[rows].astype(np.float32)
    _, milliseconds = _timed(lambda vector: opened.nearest(vector, RECALL_AT + 1)[0], vectors)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return float(p50), float(p99), _peak_gib()


def _user_queries(files: list[Path], directory: Path, queries: int) -> tuple[float, float]:
    """Measure recall and median time, ms, of user queries."""
    opened, embeddings = open_index(directory, files[0].parent), Embeddings(files)
    return _ask(lambda direction: opened.most_similar(direction, ANSWERS)[0], embeddings, queries)


def _ask(
    answer: Callable[[Vectors], npt.NDArray[np.int64]], embeddings: Embeddings, queries: int
) -> tuple[float, float]:
    """Measure recall and median time, ms, of user queries to a function that returns rows."""
    rows = np.sort(np.random.default_rng(3).choice(len(embeddings), queries, replace=False))
    directions = embeddings.rows(rows)
    directions[:, :HOST_DIRECTIONS] *= HOST_WEIGHT
    directions = _unit(directions)
    exact = _exact_answers(embeddings, directions)
    found, milliseconds = _timed(answer, directions)
    return recall(found, exact), float(np.median(milliseconds))


def _timed(
    answer: Callable[[Vectors], npt.NDArray[np.int64]], vectors: Vectors
) -> tuple[list[npt.NDArray[np.int64]], list[float]]:
    """Search one vector at a time; return rows, and times in ms."""
    found, milliseconds = [], []
    for vector in vectors:
        asked = time.perf_counter()
        found.append(answer(vector))
        milliseconds.append(1000 * (time.perf_counter() - asked))
    return found, milliseconds


def _exact_answers(embeddings: Embeddings, directions: Vectors) -> list[npt.NDArray[np.int64]]:
    """Find the rows of each query's nearest vectors by exhaustive search."""
    import faiss

    best = faiss.ResultHeap(len(directions), ANSWERS, keep_max=True)
    for first, vectors in embeddings.blocks():
        similarity, rows = faiss.knn(directions, vectors, min(ANSWERS, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(similarity, rows + first)
    best.finalize()
    return list(best.I)


@dataclass(frozen=True)
class Graph:
    """Parameters of the peer's graph."""

    m: int
    ef_construction: int


def _hnswlib(files: list[Path], graph: Graph, directory: Path, queries: int) -> Row:
    """Measure the peer, which holds all vectors and the graph in memory."""
    import hnswlib

    embeddings = Embeddings(files)
    started = time.monotonic()
    index = hnswlib.Index("ip", embeddings.dimensions)
    index.init_index(len(embeddings), M=graph.m, ef_construction=graph.ef_construction)
    for first, vectors in embeddings.blocks():
        index.add_items(vectors, np.arange(first, first + len(vectors)))
    seconds = time.monotonic() - started
    directory.mkdir()
    index.save_index(str(directory / PEER))

    def nearest(vector: Vectors, k: int) -> npt.NDArray[np.int64]:
        return index.knn_query(vector[None], k)[0][0].astype(np.int64)

    rows = np.sort(np.random.default_rng(2).choice(len(embeddings), queries, replace=False))
    exact = exact_neighbours(embeddings, rows, RECALL_AT)
    vectors = embeddings.rows(rows)
    found_recall, milliseconds, search_depth = 0.0, [0.0], 0
    for search_depth in (32, 64, 128, 256, 512, 1024, 2048):
        index.set_ef(search_depth)
        found, milliseconds = _timed(lambda vector: nearest(vector, RECALL_AT + 1), vectors)
        others = [near[near != row][:RECALL_AT] for row, near in zip(rows, found, strict=True)]
        found_recall = recall(others, exact)
        if found_recall >= 0.95:
            break
    index.set_ef(QUERY_DEPTH_FACTOR * search_depth)
    user_queries = _ask(lambda direction: nearest(direction, ANSWERS), embeddings, queries)
    size = (directory / PEER).stat().st_size / len(embeddings)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    memory = _peak_gib(), _peak_gib()
    name = f"{PEER} M={graph.m}, ef_construction {graph.ef_construction}, ef {search_depth}"
    return Row(name, found_recall, float(p50), float(p99), *user_queries, seconds, *memory, size)


def _alone(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a new process, to measure its memory alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(files: list[Path], kind: str, directory: Path, queries: int) -> Row:
    """Build an index and search it."""
    seconds, build_gib = _alone(_build, files, kind, directory, queries)
    p50, p99, search_gib = _alone(_search, files, directory, queries)
    user_queries = _alone(_user_queries, files, directory, queries)
    report = open_index(directory, files[0].parent).report
    name = f"auto: {report.kind}" if kind == "auto" else report.kind
    if report.search_depth is not None:
        name += f", search depth {report.search_depth}, {report.n_rerank} re-ranked"
    memory = build_gib, search_gib
    return Row(name, report.recall_at_10, p50, p99, *user_queries, seconds, *memory, report.bytes_per_vector)


def measured(files: list[Path], kinds: list[str], peer: Graph, work: Path, queries: int) -> Iterator[Row]:
    """Measure one kind after another."""
    for number, kind in enumerate(kinds):
        directory = work / f"index{number}"
        if kind == PEER:
            yield _alone(_hnswlib, files, peer, directory, queries)
        else:
            yield measure(files, kind, directory, queries)


def _cells(row: Row) -> list[str]:
    return [
        row.kind,
        f"{row.recall_at_10:.3f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.query_recall:.3f}",
        f"{row.query_p50_ms:.2f}",
        f"{row.build_seconds:.0f}",
        f"{row.build_gib:.2f}",
        f"{row.search_gib:.2f}",
        f"{row.bytes_per_vector:.0f}",
    ]


def _print(n: int, dimensions: int, rows: Iterator[Row]) -> None:
    """Print the table row by row.

    A graph of ten million vectors takes an hour, so finished rows are kept if a later one fails.
    """
    table = Table(title=f"{n:,} x {dimensions}", title_justify="left")
    table.add_column("index")
    headings = ("recall@10", "p50 ms", "p99 ms", "user queries", "p50 ms", "build s", "build GiB", "search GiB")
    for heading in (*headings, "bytes/vector"):
        table.add_column(heading, justify="right")
    with Live(table, console=Console(width=150)):
        for row in rows:
            table.add_row(*_cells(row))


def main(
    sizes: Annotated[list[int], typer.Argument(help="Numbers of vectors.")],
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Kinds of index [default: Flat, auto, HNSW32 and, if installed, {PEER}].")
    ] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Folder of real embeddings to draw from.")] = None,
    dimensions: Annotated[int, typer.Option(help="Dimensions of made-up vectors.")] = 128,
    noise: Annotated[float, typer.Option(help="Noise of made-up vectors, in units of their scatter.")] = 1.0,
    queries: Annotated[int, typer.Option(help="Queries, one at a time.")] = 200,
    peer_m: Annotated[int, typer.Option(help="M of hnswlib.")] = 32,
    peer_ef_construction: Annotated[int, typer.Option(help="ef_construction of hnswlib.")] = 200,
    folder: Annotated[Path | None, typer.Option(help="Folder for the vectors [default: a temporary folder].")] = None,
) -> None:
    """Measure kinds of index."""
    kinds = kind or ["Flat", "auto", "HNSW32", PEER]
    if PEER in kinds and find_spec(PEER) is None:
        print(f"{PEER} is not installed and is left out; install it with `pip install {PEER}`")
        kinds.remove(PEER)
    real = None
    if embeddings is not None:
        real = Embeddings([file for file in sorted(embeddings.glob("*.npy")) if not file.name.endswith(".ids.npy")])
        dimensions = real.dimensions
    for n in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            vectors = resampled_vectors(n, real) if real else latent_vectors(n, dimensions, noise)
            files = write_shards(vectors, Path(work) / "embeddings")
            _print(n, dimensions, measured(files, kinds, Graph(peer_m, peer_ef_construction), Path(work), queries))


if __name__ == "__main__":
    typer.run(main)
