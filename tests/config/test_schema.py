"""Tests of the configuration's JSON schema."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from tidalkin.config.schema import configuration_schema

CONFIGURATIONS = ("config.yaml", "desmons2023.yaml", "galaxy_cruise.yaml", "hsc_pdr3.yaml")


def test_the_schema_is_that_of_the_code(root):
    assert json.loads((root / "config" / "schema.json").read_text()) == json.loads(json.dumps(configuration_schema()))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_shipped_configuration_names_the_schema_and_agrees_with_it(root, name):
    text = (root / "config" / name).read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads((root / "config" / "schema.json").read_text()))


@pytest.mark.parametrize("wrong", [{"trainin": {}}, {"training": {"epochs": 0}}, {"cutouts": {"bands": ["u"]}}])
def test_a_wrong_key_or_value_does_not_agree_with_the_schema(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, configuration_schema())
