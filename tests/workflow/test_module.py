"""The workflow uses its own package, even as a module or in another clone's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tidalkin.stage import stage

CONFIG = "{run: mine, cutouts: {simulated: {galaxies: 3}}, training: {batch_size: 2}}"


def clone(root: Path, folder: Path, version: str) -> Path:
    """Copy the workflow, with a package of this version."""
    folder.mkdir()
    shutil.copy(root / "Snakefile", folder)
    for name in ("workflow", "config", "envs"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "workflow" / "tidalkin" / "__init__.py"
    package.write_text(package.read_text() + f'\n__version__ = "{version}"\n')
    return folder


def run(snakefile: Path, folder: Path, *arguments: str, environment: Path) -> subprocess.CompletedProcess:
    """Run Snakemake in an environment whose package is that of another clone."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "1"]
    variables = {**os.environ, "PYTHONPATH": str(environment / "workflow")}
    return subprocess.run([*command, *arguments], cwd=folder, env=variables, capture_output=True, text=True)


def package_version(catalog: Path) -> str:
    """Read the version of the package that wrote a catalog."""
    return pq.read_metadata(catalog).metadata[b"tidalkin"].decode()


def test_a_clone_runs_its_own_package_in_the_environment_of_another(root, tmp_path):
    other = clone(root, tmp_path / "other", "of the other clone")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(CONFIG)
    done = run(
        other / "Snakefile",
        tmp_path / "run",
        *("--configfile", "config.yaml", "--until", "catalog"),
        environment=root,
    )
    assert done.returncode == 0, done.stderr
    assert package_version(tmp_path / "run" / "results" / "mine" / "catalog.parquet") == "of the other clone"


def test_the_workflow_is_a_module_of_another_workflow(root, tmp_path):
    ours, environment = (clone(root, tmp_path / name, f"of {name}") for name in ("ours", "environment"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "Snakefile").write_text(
        f"""
module tidalkin:
    snakefile: "{ours / "Snakefile"}"
    config: {{"run": "mine", "cutouts": {{"simulated": {{"galaxies": 3}}}}, "training": {{"batch_size": 2}}}}

use rule * from tidalkin as tidalkin_*

rule count:
    default_target: True
    input: "results/mine/catalog.parquet"
    output: "count.txt"
    shell: "wc -c < {{input}} > {{output}}"
"""
    )
    done = run(tmp_path / "theirs" / "Snakefile", tmp_path / "theirs", environment=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "theirs" / "count.txt").exists()
    assert package_version(tmp_path / "theirs" / "results" / "mine" / "catalog.parquet") == "of ours"


def test_two_clones_in_one_workflow_are_refused_in_a_sentence(root, tmp_path):
    clones = [clone(root, tmp_path / name, name) for name in ("first", "second")]
    (tmp_path / "theirs").mkdir()
    modules = [
        f'module m{i}:\n    snakefile: "{path / "Snakefile"}"\n    config: {{}}\nuse rule * from m{i} as m{i}_*\n'
        for i, path in enumerate(clones)
    ]
    (tmp_path / "theirs" / "Snakefile").write_text("\n".join(modules))
    done = run(tmp_path / "theirs" / "Snakefile", tmp_path / "theirs", "-n", environment=root)
    assert done.returncode != 0
    assert f"the workflow in {clones[1]} cannot use its own package" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_script_that_would_use_the_package_of_another_clone_stops_with_a_sentence(tmp_path, root):
    log = tmp_path / "stage.log"
    job = SimpleNamespace(log=[str(log)], scriptdir=str(tmp_path / "workflow" / "scripts"), config={}, params={})
    with pytest.raises(SystemExit), stage(job):
        pass
    assert f"would use the package in {root / 'workflow'}" in log.read_text()
