"""Write the reference of the configuration: ``python -m tidalkin.config.reference``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import cleandoc
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidalkin.config import Query, Section, Settings

INTRODUCTION = """# Configuration

A configuration file needs only the keys that differ from the defaults. All keys are checked before anything runs. Keys
under `compute` decide how a result is computed. Some of them, such as precision and device, change it slightly, by
rounding. Changing these keys re-runs nothing.

To use your own file, add `--configfile my_run.yaml`. It replaces `config/config.yaml` and does not mix with it. To
change a single value, add it to the command, as in `snakemake --cores all --config 'search={k: 50}'`.

This page is written by `make reference` from the code in `workflow/tidalkin/config`.
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
    if origin is Annotated:
        return _allowed(arguments[0]) + "".join(_bounds(one) for one in arguments[1:] if isinstance(one, FieldInfo))
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
    text = [f"## {title}", "", cleandoc(section.__doc__ or ""), ""]
    if rows:
        text += ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    yield "\n".join(text)
    for inner_section, inner_name in inner:
        yield from _sections(inner_section, inner_name)  # type: ignore[arg-type]


def configuration_reference() -> str:
    """Return the whole reference as Markdown.

    Examples
    --------
    >>> [line for line in configuration_reference().splitlines() if line.startswith("## `cutouts.")][:3]
    ['## `cutouts.simulated`', '## `cutouts.folder`', '## `cutouts.hsc_das`']
    """
    query = "\n".join(_sections(Query, "search.queries.<name>"))
    return "\n".join([INTRODUCTION, *_sections(Settings, ""), query])


if __name__ == "__main__":
    print(configuration_reference(), end="")
