"""The environments agree with each other and with what the package declares."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml


def pins(text: str) -> dict[str, str]:
    return dict(line.split("==") for line in text.splitlines() if "==" in line)


def test_conda_and_pip_install_the_same_versions(root):
    conda = yaml.safe_load((root / "envs" / "tidalkin.yaml").read_text())["dependencies"][-1]["pip"]
    assert pins("\n".join(conda)) == pins((root / "envs" / "requirements.txt").read_text())


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (["dependencies", "pipeline", "slurm", "explorer"], ["requirements.txt"]),
        (["docs", "dev"], ["requirements.txt", "requirements-dev.txt"]),
    ],
)
def test_every_declared_dependency_is_pinned(root, groups, files):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needs = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    declared = {re.match(r"[\w-]+", need)[0].lower() for group in groups for need in needs[group]} - {"tidalkin"}
    assert declared <= {name for file in files for name in pins((root / "envs" / file).read_text())}


def test_held_versions_are_the_pinned_ones(root):
    held = pins((root / "envs" / "held.txt").read_text())
    assert held
    assert held.items() <= pins((root / "envs" / "requirements.txt").read_text()).items()


def test_no_file_names_a_registry(root):
    for path in [*(root / "envs").glob("*.txt"), *(root / "envs").glob("*.yaml")]:
        assert not re.search(r"https?://|index-url|find-links", path.read_text()), path


def test_the_configuration_reference_is_that_of_the_code(root):
    from tidalkin.config.reference import configuration_reference

    assert (root / "docs" / "reference" / "configuration.md").read_text() == configuration_reference()


def test_make_in_a_path_with_a_space_says_so_before_anything_starts(root, tmp_path):
    folder = tmp_path / "my folder"
    folder.mkdir()
    shutil.copy(root / "Makefile", folder)
    done = subprocess.run(["make", "demo"], cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"the folder '{folder}' has a space in its path" in done.stderr
    assert not (folder / ".venv").exists()
