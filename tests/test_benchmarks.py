"""Every benchmark starts, works on little input, and prints its table."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "conversion": ("--objects 16 --size 16 --shard-size 4 --workers 1 --rounds 1", "of plain"),
    "embedding": ("--config config/config.yaml --width 8 --images 2 --rounds 1 --no-compile", "of eager"),
    "download": ("--objects 20 --chunk 5 --pixels 16 --connections 2 --rounds 1", "download"),
    "explorer_speed": ("--galaxies 2000 --repeats 1 --kind Flat --no-browser", "rank after a mark"),
    "growth": ("24 6 --per-file 10", "jobs, grown"),
    "index": ("3000 --dimensions 16 --queries 20", "recall@10"),
    "index_memory": ("20000 --dimensions 16 --kind IVF16,PQ8x4fs --shards-per-part 8", "join"),
    "patches": ("--side 300 --objects 3", "galaxies per plain"),
    "planning": ("3 --chunk-size 4", "chunks"),
    "real_sky": (
        "{scenes} --out {out} --count 6 --rows 12 --epochs 1 --batch-size 6 --width 8 --draws 1",
        "every second scene, asked about the others: ROC area",
    ),
    "rehearsal": ("64 --out {out} --chunk-size 32 --shard-size 32 --no-evaluation", "`search.k` changed"),
    "scaling": ("--smallest 256", "exponent"),
    "second_maker": ("{out} --galaxies 2 --size 32", "galaxies in"),
    "simulation": ("--galaxies 4 --size-pixels 32", "galaxies"),
    "training": (
        "--config config/config.yaml --width 8 --batch-size 4 --steps 1 --rounds 1 --embed 2 --workers 0",
        "of ceiling",
    ),
}

NO_TABLE = {"active_search", "explorer_pictures"}
"""They need a finished run. tests/explorer goes through the same code and the same page."""


def test_every_benchmark_is_started_here():
    assert sorted({*SMALL, *NO_TABLE}) == sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_its_table(name, tmp_path, request):
    arguments, heading = SMALL[name]
    # Skipped where the real images are absent.
    scenes = request.getfixturevalue("real_hsc_cutouts") if "{scenes}" in arguments else None
    command = [sys.executable, f"benchmarks/{name}.py", *arguments.format(out=tmp_path / "out", scenes=scenes).split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert heading in done.stdout


@pytest.fixture
def training(monkeypatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("training")
    yield module
    del sys.modules["training"]


def test_an_absent_peer_is_one_line_of_the_table(training, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    assert training.missing_peer() == "lightly: not installed"


def test_a_peer_that_was_installed_without_its_requirements_is_one_line_too(training, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "lightly").mkdir()
    (tmp_path / "lightly" / "__init__.py").write_text("import a_package_that_lightly_needs")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert training.missing_peer() == "lightly: needs the package a_package_that_lightly_needs"


def test_the_gpu_benchmark_says_so_where_there_is_no_gpu():
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no CUDA device is visible to torch")
