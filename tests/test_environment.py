"""The environments agree with each other and with what the package declares."""

from __future__ import annotations

import re
import tomllib

import yaml


def pins(text: str) -> dict[str, str]:
    return dict(line.split("==") for line in text.splitlines() if "==" in line)


def test_conda_and_pip_install_the_same_versions(root):
    conda = yaml.safe_load((root / "envs" / "tidalkin.yaml").read_text())["dependencies"][-1]["pip"]
    assert pins("\n".join(conda)) == pins((root / "envs" / "requirements.txt").read_text())


def test_every_declared_dependency_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", need)[0].lower() for need in project["dependencies"]}
    assert declared <= set(pins((root / "envs" / "requirements.txt").read_text()))


def test_no_file_names_a_registry(root):
    for path in (root / "envs").iterdir():
        assert not re.search(r"https?://|index-url|find-links", path.read_text()), path


def test_the_configuration_reference_is_that_of_the_code(root):
    from tidalkin.config.reference import configuration_reference

    assert (root / "docs" / "reference" / "configuration.md").read_text() == configuration_reference()
