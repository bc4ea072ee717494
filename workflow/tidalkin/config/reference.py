"""Write the reference of the configuration: ``python -m tidalkin.config.reference``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidalkin.config import Query, Section, Settings

INTRODUCTION = """# Configuration

Made by `make reference` from `workflow/tidalkin/config`, which checks every key before anything runs. A file needs
only the keys that differ from the defaults. Values under `compute` never change results, and changing them re-runs
nothing.

On the command line: `snakemake --cores all --config 'search={k: 50}'`; another file: `--configfile my.yaml` (it stands
alone: the default run's file is then not read).
"""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _allowed(annotation: Any) -> str:
    """Name a type in the words of a reader of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(annotation, "")
    if "Literal" in str(origin):
        return " or ".join(f"`{json.dumps(value) if not isinstance(value, str) else value}`" for value in arguments)
    if origin is tuple:
        inner = _allowed(arguments[0])
        return f"list of: {inner}" if Ellipsis in arguments else f"[{', '.join(_allowed(a) for a in arguments)}]"
    if origin is dict:
        return "mapping"
    if arguments and str(origin) == "typing.Annotated":
        return _allowed(arguments[0])
    return " or ".join("none" if argument is type(None) else _allowed(argument) for argument in arguments)


def _bounds(field: FieldInfo) -> str:
    signs = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
    found = []
    for constraint in field.metadata:
        for kind, sign in signs.items():
            if isinstance(constraint, kind):
                found.append(f"{sign} {getattr(constraint, kind.__name__.lower())}")
        if isinstance(constraint, MinLen):
            found.append(f"at least {constraint.min_length}")
    return f", {', '.join(found)}" if found else ""


def _sections(section: type[Section], name: str) -> Iterator[str]:
    """Yield the table of a section, then those of the sections inside it."""
    rows, inner = [], []
    for key, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            inner.append((annotation, f"{name}.{key}" if name else key))
            continue
        allowed = _allowed(annotation) + _bounds(field)
        rows.append(f"| `{key}` | `{_default(field)}` | {allowed} | {field.description} |".replace("||", "|"))
    title = f"`{name}`" if name else "Top level"
    text = [f"## {title}", "", section.__doc__ or "", ""]
    if rows:
        text += ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    yield "\n".join(text)
    for inner_section, inner_name in inner:
        yield from _sections(inner_section, inner_name)  # type: ignore[arg-type]


def configuration_reference() -> str:
    """Return the whole reference as Markdown."""
    query = "\n".join(_sections(Query, "search.queries.<name>"))
    return "\n".join([INTRODUCTION, *_sections(Settings, ""), query])


if __name__ == "__main__":
    print(configuration_reference(), end="")
