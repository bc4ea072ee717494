"""Equal keys and odd numbers in a configuration file are refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tidalkin.config import check_config_file, load_settings
from tidalkin.errors import TidalkinError


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(TidalkinError) as error:
        check_config_file(path)
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
        "",
        "seed: 0\nrun: '1_000'\ntraining: {base_learning_rate: 1.5e-2, weight_decay: 2.}",
        "augment: {zoom: [.9, +1.1], crop: 96}\nembedding: {crop: 96}",
        "a: &x {size: 1}\nb: {<<: *x, size: 2}\nc: *x",
        "a: &x [*x]",
        "compute: {dask: {slurm: {walltime: '04:00:00'}}}",
        json.dumps({"seed": 1, "images": {"size": 96}, "stretch": {"maximum": 1e10}}),
    ],
)
def test_equal_names_in_different_sections_and_decimal_numbers_are_taken(tmp_path, text):
    (tmp_path / "my_run.yaml").write_text(text)
    check_config_file(tmp_path / "my_run.yaml")


def test_aliases_of_aliases_are_checked_once(tmp_path):
    names = "abcdefghijklmnop"
    lines = ["a: &a [1, 2]"]
    lines += [f"{name}: &{name} [{', '.join(9 * [f'*{earlier}'])}]" for earlier, name in itertools.pairwise(names)]
    (tmp_path / "my_run.yaml").write_text("\n".join(lines))
    check_config_file(tmp_path / "my_run.yaml")


def test_the_configurations_of_this_repository_are_taken(root):
    for path in (root / "config").glob("*.yaml"):
        check_config_file(path)


@pytest.mark.parametrize("number", ["010", "1_000", "-1_0", "0x10"])
def test_a_number_given_as_text_is_decimal_too(number):
    with pytest.raises(TidalkinError, match=r"config: training.epochs"):
        load_settings({"training": {"epochs": number}})
