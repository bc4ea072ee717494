"""A script reads the settings that its rule declares, and no others."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

from conftest import ROOT
from tidalkin.config import DeclaredSettings, Section, declare, load_settings

HOW = {f"{name}.{key}" for name, section in load_settings({}) if isinstance(section, Section) for key in section.HOW}
"""Keys that may be read without being declared."""

RULE = re.compile(
    r"^ *(?:rule|checkpoint) (\w+):\n(.*?)(?=^ *(?:rule|checkpoint|else|if)\b|\Z)", re.MULTILINE | re.DOTALL
)


def rules() -> dict[str, str]:
    """Read the text of each rule that has a script, by its name."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    return {name: body for name, body in RULE.findall(text) if "script:" in body}


def declared(body: str) -> set[str]:
    """Find the keys that a rule names in `uses(...)`; a wildcard counts as any name."""
    call = re.search(r"uses\((.*?)\),?\n", body, re.DOTALL)
    return {re.sub(r"\.\{.*\}", "", key) for key in re.findall(r'"([^"]+)"', call[1])} if call else set()


def read(script: Path) -> set[str]:
    """Find the settings that a script reads, like `search.k`, or `*` for all."""
    found = set()
    inner = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
            path, value = [node.attr], node.value
            while isinstance(value, ast.Attribute):
                path, value = [value.attr, *path], value.value
            if isinstance(value, ast.Name) and value.id == "settings" and id(node) not in inner:
                found.add(".".join(path))
        elif isinstance(node, ast.Name) and node.id == "settings" and isinstance(node.ctx, ast.Load):
            found |= set() if id(node) in inner else {"*"}
    return found


def is_within(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.")


@pytest.mark.parametrize("name", sorted(rules()))
def test_a_script_reads_exactly_what_its_rule_declares(name):
    body = rules()[name]
    script = ROOT / "workflow" / "scripts" / re.search(r'"\.\./scripts/(\w+\.py)"', body)[1]
    keys, used = declared(body), read(script)
    for key in used - HOW - {"*"}:
        assert is_within(key, "compute") or any(is_within(key, one) or is_within(one, key) for one in keys), key
    for key in keys if "*" not in used else ():
        assert any(is_within(key, one) or is_within(one, key) for one in used), key


def test_no_script_reads_the_configuration_past_its_rule():
    for script in (ROOT / "workflow" / "scripts").glob("*.py"):
        assert "snakemake.config" not in script.read_text(), script
        assert "load_settings" not in script.read_text(), script


SETTINGS = load_settings(
    {
        "seed": 3,
        "embedding": {"crop": 63, "dimensions": 12},
        "search": {"k": 5, "queries": {"one": {"like": [1]}, "two": {"like": [2]}}},
        "index": {"shards_per_part": 16},
        "compute": {"device": "cpu"},
    }
)


def test_a_declared_section_is_read_whole_and_a_declared_key_alone():
    seen = DeclaredSettings(SETTINGS, declare(SETTINGS, "embedding", "search.k", "search.queries.two"))
    assert seen.embedding == SETTINGS.embedding
    assert seen.search.k == 5
    assert set(seen.search.queries) == {"two"}
    assert seen.search.radius_arcsec == load_settings({}).search.radius_arcsec


def test_what_is_not_declared_cannot_be_read():
    seen = DeclaredSettings(SETTINGS, declare(SETTINGS, "embedding.crop"))
    assert seen.embedding.dimensions == load_settings({}).embedding.dimensions
    with pytest.raises(AttributeError, match="does not declare `seed`"):
        _ = seen.seed


def test_what_controls_only_how_a_result_is_computed_is_read_but_not_declared():
    seen = DeclaredSettings(SETTINGS, declare(SETTINGS, "index.kind"))
    assert seen.compute.device == "cpu"
    assert seen.index.shards_per_part == 16
    assert "shards_per_part" not in declare(SETTINGS, "index")["index"]


def test_a_section_that_a_release_adds_runs_nothing_again_until_it_changes_a_result():
    before, same, other = (
        declare(SETTINGS, "seed"),
        declare(SETTINGS, "seed", "index"),
        declare(SETTINGS, "seed", "index"),
    )
    same["index"] = {}
    assert repr(same) == repr(before) != repr(other)
    assert DeclaredSettings(SETTINGS, same).index == SETTINGS.index
    assert pickle.loads(pickle.dumps(same)) == same
