"""The commands that error messages recommend work."""

import re
from pathlib import Path

import pytest

from surveys.tiny import TINY, planned

HINT = re.compile(r"snakemake --(forcerun|until) (\w+)")


def hints(root: Path) -> set[tuple[str, str]]:
    """Return the option and the rule of each command in a message of the package."""
    sources = (root / "workflow" / "tidalkin").rglob("*.py")
    return {match for source in sources for match in HINT.findall(source.read_text())}


@pytest.mark.slow
def test_each_command_of_a_message_runs_the_rule_that_it_names(tmp_path, root, snakemake):
    config = TINY | {"evaluation": {"enabled": False}, "search": {"queries": {}}}
    snakemake(tmp_path, config=config)
    found = hints(root)
    assert len(found) >= 5
    for option, rule in sorted(found):
        if option == "until":  # recommended where the files are missing
            empty = tmp_path / "empty"
            empty.mkdir(exist_ok=True)
            assert rule in planned(snakemake(empty, "-n", "--until", rule, config=config).stdout), (option, rule)
        else:
            assert rule in planned(snakemake(tmp_path, "-n", "--forcerun", rule, config=config).stdout), (option, rule)
