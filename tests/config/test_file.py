"""Equal keys and odd numbers in a configuration file are refused."""

from __future__ import annotations

import datetime
import itertools
import json
from pathlib import Path

import pytest

from tidalkin.config import load_settings, read_config_file
from tidalkin.errors import TidalkinError


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(TidalkinError) as error:
        read_config_file(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "training: {epochs: 3}\nseed: 1\ntraining: {batch_size: 8}",
            "line 3: key `training` is given on line 1 already",
        ),
        ("training:\n  epochs: 3\n  epochs: 4", "line 3: key `training.epochs` is given on line 2 already"),
        (
            "search:\n  queries:\n    a: {like: [1]}\n    a: {like: [2]}",
            "line 4: key `search.queries.a` is given on line 3 already",
        ),
        ("seed: 1\n'seed': 2", "line 2: key `seed` is given on line 1 already"),
        ("seed: 010", "line 1: seed is 010, which YAML reads as another number"),
        ("seed: 0x10", "line 1: seed is 0x10, which"),
        ("seed: 0b1", "line 1: seed is 0b1, which"),
        ("seed: 1_000", "line 1: seed is 1_000, which"),
        ("seed: 1:30", "line 1: seed is 1:30, which"),
        ("run: 2024_01", "line 1: run is 2024_01, which"),
        ("search:\n  queries:\n    a: {like: [1, 0_2]}", "line 3: search.queries.a.like is 0_2, which"),
        ("training: {base_learning_rate: 1_0.5}", "line 1: training.base_learning_rate is 1_0.5, which"),
        ("compute: {dask: {slurm: {walltime: 14:00:00}}}", "line 1: compute.dask.slurm.walltime is 14:00:00, which"),
        (
            '{"seed": 1, "training": {"epochs": 1, "epochs": 2}}',
            "key `epochs` is given twice in one section: keep one",
        ),
        ("cutouts: {bands: !!set {g, i}}", "line 1: cutouts.bands is a !!set of YAML: write a list"),
        ("seed: 1\ncutouts: !!omap [source: simulated]", "line 2: cutouts is a !!omap of YAML: write a list"),
        ("cutouts: {bands: !!python/tuple [g, i]}", "line 1: cutouts.bands is a !!python/tuple of YAML"),
        ("run: !!python/object/apply:os.getcwd []", "line 1: run is a !!python/object/apply:os.getcwd of YAML"),
        ("run: !!binary aGVsbG8=", "line 1: run is aGVsbG8=, which YAML reads as !!binary: write it in quotes"),
        ("run: 2024-01-02", "line 1: run is 2024-01-02, which YAML reads as !!timestamp: write it in quotes"),
        ("run: 2024-13-45", "line 1: run is 2024-13-45, which YAML reads as !!timestamp: write it in quotes"),
        ("run: !mine a", "line 1: run is a, which YAML reads as !mine"),
        ("seed: !!bool a", "line 1: seed is a, which is neither true nor false"),
        ("!!set {run}", "line 1: the file is a !!set of YAML"),
        ("run: a\n\tseed: 1", "line 2: it is not valid YAML"),
        ("run: a\nseed: [1", "line 2: it is not valid YAML"),
        ("run: a\n---\nseed: 1", "line 2: it is not valid YAML (but found another document)"),
        ("run: a\n? [a, b]\n: 3", "line 2: it is not valid YAML (found unhashable key)"),
        ("run: a\nseed: 1\0", "line 2: the character '\\x00' is not allowed in YAML: remove it"),
        (f"seed: {5000 * '9'}", "a value cannot be read (Exceeds the limit (4300 digits)"),
        (f"run: {3000 * '['}{3000 * ']'}", "its lists or sections are nested too deeply"),
        (f'{{"run": {3000 * "["}{3000 * "]"}}}', "its lists or sections are nested too deeply"),
        ("", "the file holds no key: write keys and their values, like `run: my_run`"),
        ("# run: a", "the file holds no key"),
        ("- run: a", "the file holds a list instead of keys"),
        ("run a", "the file holds a text instead of keys"),
    ],
)
def test_a_fault_is_one_sentence_that_names_file_line_and_key(tmp_path, text, sentence):
    found = refusal(tmp_path / "my_run.yaml", text)
    assert found.startswith(f"config: {tmp_path / 'my_run.yaml'}, ")
    assert sentence in found
    assert "\n" not in found


def test_every_fault_has_its_own_line(tmp_path):
    found = refusal(tmp_path / "my_run.yaml", "seed: 010\nseed: 2\nimages: {size: 0x40}")
    assert len(found.splitlines()) == 3


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0\nrun: '1_000'\ntraining: {base_learning_rate: 1.5e-2, weight_decay: 2.}",
        "augment: {zoom: [.9, +1.1], crop: 96}\nembedding: {crop: 96}",
        "a: &x {size: 1}\nb: {<<: *x, size: 2}\nc: *x",
        "a: &x [*x]",
        "compute: {dask: {slurm: {walltime: '04:00:00'}}}",
        "\ufeffrun: a\nseed: 1",
        "run: a\r\nseed: 1\r\n",
        "run: !!str 2024-01-02",
        json.dumps({"seed": 1, "images": {"size": 96}, "stretch": {"maximum": 1e10}}),
    ],
)
def test_equal_names_in_different_sections_and_decimal_numbers_are_taken(tmp_path, text):
    (tmp_path / "my_run.yaml").write_text(text)
    read_config_file(tmp_path / "my_run.yaml")


def test_aliases_of_aliases_are_checked_once(tmp_path):
    names = "abcdefghijklmnop"
    lines = ["a: &a [1, 2]"]
    lines += [f"{name}: &{name} [{', '.join(9 * [f'*{earlier}'])}]" for earlier, name in itertools.pairwise(names)]
    (tmp_path / "my_run.yaml").write_text("\n".join(lines))
    read_config_file(tmp_path / "my_run.yaml")


def test_the_configurations_of_this_repository_are_taken(root):
    for path in (root / "config").glob("*.yaml"):
        read_config_file(path)


@pytest.mark.parametrize("number", ["010", "1_000", "-1_0", "0x10"])
def test_a_number_given_as_text_is_decimal_too(number):
    with pytest.raises(TidalkinError, match=r"config: training.epochs"):
        load_settings({"training": {"epochs": number}})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("run: a\n# Sérsic".encode("latin-1"), ", line 2: the byte 0xe9 is not UTF-8: save the file as UTF-8 text"),
        ("run: a".encode("utf-16"), ", line 1: the byte 0xff is not UTF-8"),
    ],
)
def test_a_file_of_another_encoding_is_refused_with_the_line(tmp_path, content, sentence):
    (tmp_path / "my_run.yaml").write_bytes(content)
    with pytest.raises(TidalkinError) as error:
        read_config_file(tmp_path / "my_run.yaml")
    assert f"{tmp_path / 'my_run.yaml'}{sentence}" in str(error.value)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.yaml", "No such file or directory")):
        with pytest.raises(TidalkinError, match=f"{path} cannot be read \\({reason}\\)"):
            read_config_file(path)


@pytest.mark.parametrize("value", [{"g", "i"}, b"gi", datetime.date(2024, 1, 2), 1j])
def test_values_of_other_types_are_refused_wherever_they_come_from(value):
    for bands in (value, ["g", value]):
        with pytest.raises(TidalkinError, match=r"config: cutouts.bands is .*: write text, a number, a list"):
            load_settings({"cutouts": {"bands": bands}})
