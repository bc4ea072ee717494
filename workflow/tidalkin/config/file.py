"""Checks of a configuration file, before its values are known.

A YAML reader keeps the last of two equal keys, and reads `010` as 8, `1_000` as 1000 and `1:30` as 90. Such keys and
numbers are refused here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tidalkin.errors import TidalkinError

_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(r"[-+]?([0-9]*\.?[0-9]+|[0-9]+\.)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.I),
}


def check_config_file(path: str | Path) -> None:
    """Refuse equal keys in one section, and numbers that are not written in decimal digits.

    A file that is neither JSON nor YAML is left to the reader that takes its values.

    Parameters
    ----------
    path : str or Path
        The configuration, JSON or YAML.

    Raises
    ------
    TidalkinError
        With one sentence for each fault, which names the file, the line and the key.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        faults = _json_faults(text)
    except ValueError:
        try:
            # Snakemake reads one document; its values have the types of YAML 1.1, as here.
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            return
        faults = list(_yaml_faults(node, "", set())) if node else []
    if faults:
        raise TidalkinError("\n".join(f"config: {path}, {fault}" for fault in faults))


def _json_faults(text: str) -> list[str]:
    """List the equal keys of a JSON file, whose numbers are always decimal."""
    faults: list[str] = []

    def section(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(key for key, _ in pairs)
        repeated = [key for key, count in counts.items() if count > 1]
        faults.extend(f"key `{key}` is given twice in one section: keep one of the two" for key in repeated)

    json.loads(text, object_pairs_hook=section)
    return faults


def _yaml_faults(node: yaml.Node, key: str, seen: set[int]) -> Iterator[str]:
    """List the faults in the part of a YAML file that belongs to ``key``.

    ``seen`` holds the identities of the nodes that were checked. An alias may stand within what it names, and a few
    aliases of aliases name millions of nodes.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            path = f"{key}.{name.value}" if key else str(name.value)
            line = name.start_mark.line + 1
            if path in lines:
                yield f"line {line}: key `{path}` is given on line {lines[path]} already: keep one of the two"
            lines.setdefault(path, line)
            yield from _yaml_faults(name, path, seen)
            yield from _yaml_faults(value, path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _yaml_faults(value, key, seen)
    elif isinstance(node, yaml.ScalarNode):
        # Text in quotes is not a number: the reader gives it the tag of text.
        pattern = _NUMBERS.get(node.tag)
        if pattern and not pattern.fullmatch(node.value):
            yield (
                f"line {node.start_mark.line + 1}: {key} is {node.value}, which YAML reads as another number: "
                "write it in decimal digits, or in quotes if it is text"
            )
