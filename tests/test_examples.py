"""Public functions, classes and commands show how they are used."""

from __future__ import annotations

import ast
import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from tidalkin.cli import app
from tidalkin.explorer.survey import Survey
from tidalkin.images.store import ImageStore
from tidalkin.run import Run
from tidalkin.search.query import SearchResult

COMMAND_LINE = "  tidalkin "


def commands(group: TyperGroup, name: str = "tidalkin") -> Iterator[tuple[str, TyperCommand]]:
    """Yield every command with its full name."""
    for word, command in group.commands.items():
        full = f"{name} {word}"
        if isinstance(command, TyperGroup):
            yield from commands(command, full)
        else:
            yield full, command


COMMANDS = dict(commands(get_command(app)))


def command_lines(name: str) -> list[str]:
    return [line.strip() for line in COMMANDS[name].help.splitlines() if line.startswith(COMMAND_LINE)]


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).split("(")[0].endswith("app.command") for decorator in function.decorator_list)


def has_example(docstring: str | None) -> bool:
    return "Examples\n--------\n>>> " in (docstring or "")


def test_every_public_function_has_an_example(root: Path) -> None:
    without = []
    for file in sorted((root / "workflow" / "tidalkin").rglob("*.py")):
        for function in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name.startswith("_"):
                continue
            if not is_command(function) and not has_example(ast.get_docstring(function)):
                without.append(f"{file.relative_to(root)}: {function.name}")
    assert without == []


@pytest.mark.parametrize("opened", [Run, SearchResult, ImageStore, Survey])
def test_every_public_method_has_an_example_or_is_in_that_of_its_class(opened: type) -> None:
    of_class = inspect.getdoc(opened) or ""
    assert has_example(of_class)
    shown = of_class.partition(">>>")[2]
    public = {name: member for name, member in vars(opened).items() if not name.startswith("_")}
    methods = [name for name, member in public.items() if callable(member) or hasattr(member, "__get__")]
    assert methods
    documented = {name for name in methods if has_example(inspect.getdoc(public[name]))}
    assert [name for name in methods if name not in documented and f".{name}" not in shown] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_command_lines_that_parse(name: str) -> None:
    lines = command_lines(name)
    assert 1 <= len(lines) <= 3
    for line in lines:
        assert line.startswith(f"{name} ")
        # Raises an error of usage where an option or an argument is unknown, missing or of a wrong type.
        COMMANDS[name].make_context(name, shlex.split(line.removeprefix(name)))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_lines_of_a_help_text_fit_the_page_of_the_command_line(name: str) -> None:
    # The page is 76 columns wide (docs/reference/cli.md), with a margin on both sides.
    assert [line for line in COMMANDS[name].help.splitlines() if len(line) > 74] == []
