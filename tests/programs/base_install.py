"""Run ``tidalkin`` where only the base install can be imported: ``python base_install.py ARGUMENT ...``.

A package that the base dependencies do not bring cannot be imported.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.machinery import ModuleSpec
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def base_distributions() -> set[str]:
    """List what ``pip install tidalkin`` installs, without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo, found = [Requirement(need) for need in project["dependencies"]], {"tidalkin"}
    while todo:
        need = todo.pop()
        if canonical(need.name) in found or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        found.add(canonical(need.name))
        todo += [Requirement(text) for text in distribution(need.name).requires or ()]
    return found


def refused_packages() -> set[str]:
    """List the packages that only other distributions bring."""
    base = base_distributions()
    return {
        package
        for package, names in packages_distributions().items()
        if base.isdisjoint(canonical(name) for name in names)
    }


class Without:
    """A finder that does not find some packages."""

    def __init__(self, finder: Any, refused: set[str]) -> None:
        self.finder, self.refused = finder, refused

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in self.refused else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


if __name__ == "__main__":
    refused = refused_packages()
    sys.meta_path[:] = [Without(finder, refused) for finder in sys.meta_path]
    from tidalkin.cli import main

    main()
