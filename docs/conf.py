"""Sphinx configuration of the documentation; `make docs` builds it into build/docs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from pkgutil import walk_packages
from types import GenericAlias
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger
from typer import Typer

ROOT = Path(__file__).resolve().parents[1]
# The pages describe the package of this clone, whichever one is installed.
sys.path.insert(0, str(ROOT / "workflow"))

import tidalkin  # noqa: E402
from tidalkin.cli import app as commands_app  # noqa: E402

project = "tidalkin"
author = "The tidalkin developers"
copyright = "The tidalkin developers"
version = release = tidalkin.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.typer",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Single backticks in docstrings link to an object where they name one, as in astropy.
default_role = "py:obj"
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = True

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
# A notebook is shown with its stored output; the slow tests execute it.
nb_execution_mode = "off"

intersphinx_mapping = {
    "astropy": ("https://docs.astropy.org/en/stable/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/docs/", None),
    "python": ("https://docs.python.org/3/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
    "zarr": ("https://zarr.readthedocs.io/en/stable/", None),
}
intersphinx_timeout = 5

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"tidalkin {release}"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
# These pages stand alone, and their side bar would be empty.
html_sidebars: dict[str, list[str]] = {"index": [], "tutorial": [], "performance": []}
html_show_sourcelink = False


def _accept_unreachable(record: logging.LogRecord) -> bool:
    """Lower the level of the warning that an inventory is unreachable."""
    if "failed to reach any of the inventories" in record.getMessage():
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def _commands(typer_app: Typer) -> list[Any]:
    """List the functions behind the commands of an app and of its groups."""
    groups = [group.typer_instance for group in typer_app.registered_groups if group.typer_instance]
    return [command.callback for command in typer_app.registered_commands] + [
        command for group in groups for command in _commands(group)
    ]


COMMANDS = _commands(commands_app)
"""They are on the page of the command line, where their options are shown as a user types them."""


def _skip(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out commands, and aliases.

    The docstring of an alias such as ``Key = tuple[int, str]`` is that of ``tuple``.
    """
    is_command = any(item is command for command in COMMANDS)
    return True if is_command or isinstance(item, GenericAlias) else None


def _check_api_pages(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of modules without a page in the API reference."""
    for module in walk_packages(tidalkin.__path__, "tidalkin."):
        if f"reference/api/{module.name}" not in env.found_docs:
            getLogger(__name__).warning("the module %s has no page in the API reference", module.name)


def setup(app: Sphinx) -> None:
    """Let the pages build without a network, and with warnings as errors."""
    logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(_accept_unreachable)
    app.connect("autodoc-skip-member", _skip)
    app.connect("env-check-consistency", _check_api_pages)
