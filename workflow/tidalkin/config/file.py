"""Read and write configuration files, and check how they are written.

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
from pydantic import BaseModel

from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError, first_line

SETTINGS_FILE = "config.yaml"
"""Name of the file in the results of a run that holds its settings."""

_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(r"[-+]?([0-9]*\.?[0-9]+|[0-9]+\.)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.I),
}
_BOOLEAN = re.compile("yes|no|true|false|on|off", re.I)
_YAML = "tag:yaml.org,2002:"
_TYPES = {f"{_YAML}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
"""Types of a configuration's values and keys."""


def read_config_file(path: str | Path) -> dict[str, Any]:
    r"""Read and check a configuration file.

    Parameters
    ----------
    path : str or Path
        The configuration, JSON or YAML.

    Returns
    -------
    dict
        Its keys and values, as `load_settings` takes them.

    Raises
    ------
    TidalkinError
        With one sentence for each fault, which names the file, the line and the key.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "my_run.yaml"
    ...     _ = file.write_text("run: mine\nimages: {size: 64}\n")
    ...     read_config_file(file)
    {'run': 'mine', 'images': {'size': 64}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "my_run.yaml"
    ...     _ = file.write_text("seed: 1\nseed: 2\n")
    ...     read_config_file(file)
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: config: ...my_run.yaml, line 2: key `seed` is given on line 1 already: keep one of
    the two
    """
    text = _read_text(path)
    try:
        faults, content = _parse(text)
    except (yaml.YAMLError, RecursionError) as error:
        faults, content = [_syntax_fault(error, text)], None
    except ValueError as error:  # Python converts no number of more than 4,300 digits
        faults, content = [f"a value cannot be read ({first_line(error)}): correct it"], None
    if not faults and not isinstance(content, dict):
        held = "no key" if content is None else f"a {'list' if isinstance(content, list) else 'text'} instead of keys"
        faults = [f"the file holds {held}: write keys and their values, like `run: my_run`"]
    if faults:
        raise TidalkinError("\n".join(f"config: {path}, {fault}" for fault in faults))
    assert isinstance(content, dict)
    return content


def write_config_file(path: str | Path, settings: BaseModel, heading: str) -> None:
    r"""Write settings, with all defaults, as a configuration file.

    A file that holds the same already keeps its time.

    Parameters
    ----------
    path : str or Path
        The file, YAML.
    settings : Settings
        The configuration.
    heading : str
        Its first line, a comment.

    Examples
    --------
    >>> import tempfile
    >>> from tidalkin.config import load_settings
    >>> settings = load_settings({"run": "mine", "images": {"size": 64}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "config.yaml"
    ...     write_config_file(file, settings, "The settings of this run.")
    ...     file.read_text().splitlines()[:2], load_settings(read_config_file(file)) == settings
    (['# The settings of this run.', 'run: mine'], True)
    """
    path = Path(path)
    content = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    text = f"# {heading}\n{content}"
    if not (path.is_file() and path.read_text() == text):
        with atomic_path(path) as partial:
            partial.write_text(text)


def _read_text(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise TidalkinError(f"config: {path} cannot be read ({error.strerror}): name a file in YAML or JSON") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise TidalkinError(
            f"config: {path}, line {line}: the byte 0x{byte:02x} is not UTF-8: save the file as UTF-8 text"
        ) from None


def _parse(text: str) -> tuple[list[str], Any]:
    """Return the faults of a configuration and, if there are none, its content."""
    try:
        return _json_faults(text), json.loads(text)
    except ValueError:
        # Snakemake reads one document; its values have the types of YAML 1.1, as here.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        faults = list(_yaml_faults(node, "", set())) if node else []
        return faults, None if faults else yaml.safe_load(text)


def _syntax_fault(error: yaml.YAMLError | RecursionError, text: str) -> str:
    """Tell where a file is not YAML."""
    if isinstance(error, RecursionError):
        return "its lists or sections are nested too deeply: write it with fewer brackets"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the character {chr(error.character)!r} is not allowed in YAML: remove it"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line = error.problem_mark.line + 1
        return f"line {line}: it is not valid YAML ({error.problem}): correct it; indent with spaces"
    return f"it is not valid YAML ({first_line(error)}): correct it"


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
    if odd := _type_fault(node, key):
        yield odd
    elif isinstance(node, yaml.MappingNode):
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


def _type_fault(node: yaml.Node, key: str) -> str | None:
    """Describe a value of an odd YAML type, such as a set or a date."""
    line = node.start_mark.line + 1
    name = node.tag.replace(_YAML, "!!")
    if node.tag not in _TYPES:
        if isinstance(node, yaml.ScalarNode):
            return f"line {line}: {key} is {node.value}, which YAML reads as {name}: write it in quotes if it is text"
        where = key or "the file"
        return f"line {line}: {where} is a {name} of YAML: write a list, like [a, b], or a section, like {{a: 1}}"
    if name == "!!bool" and not _BOOLEAN.fullmatch(node.value):
        return f"line {line}: {key} is {node.value}, which is neither true nor false: write one of the two"
    return None
