"""The quick validator that runs and the reference one in Python: they have to agree on what a value is worth."""

import json
from pathlib import Path

import jsonschema
import pytest
from contracts.documents import load_yaml
from contracts.schemas import check_schema
from contracts.validation import Validator

ROOT = Path(__file__).parents[2]
META = sorted((ROOT / "contracts" / "meta").glob("*.json"))
CONTRACTS = sorted((ROOT / "workcells" / "cells").glob("*/contract.yaml"))


def changed(value):
    """Yield `value` with one part at a time left out, or made of another type."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        rest = value.copy()
        del rest[key]
        yield rest
        for other in (None, 7, "", [], {}, True, -1.5):
            yield value | {key: other} if isinstance(value, dict) else [*value[:key], other, *value[key + 1 :]]
        for inner in changed(value[key]):
            yield value | {key: inner} if isinstance(value, dict) else [*value[:key], inner, *value[key + 1 :]]


def refused_by_both(schema, values):
    """Return how many values are refused; fail where the two disagree."""
    quick, reference = Validator(schema), jsonschema.Draft202012Validator(schema)
    refused = 0
    for value in values:
        assert quick.is_valid(value) == reference.is_valid(value), json.dumps(value)[:500]
        refused += not quick.is_valid(value)
    return refused


@pytest.mark.parametrize("path", META, ids=lambda path: path.stem)
def test_the_forms_of_our_own_files_are_schemas_to_both(path):
    schema = json.loads(path.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    Validator(schema)


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.parent.name)
def test_both_agree_on_a_contract_and_on_each_small_change_of_it(path):
    contract = load_yaml(path.read_bytes(), str(path))
    values = [contract, *changed(contract)]
    schema = json.loads((ROOT / "contracts" / "meta" / "contract.json").read_bytes())
    assert 0 < refused_by_both(schema, values[:3000]) < len(values)


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.parent.name)
def test_both_agree_on_what_the_cells_take(path):
    schema = load_yaml(path.read_bytes(), str(path))["takes"]["schema"]
    check_schema(schema, name="takes", purpose="input")
    jsonschema.Draft202012Validator.check_schema(schema)
    examples = [json.loads(each.read_bytes())["item"] for each in sorted(path.parent.glob("examples/*.in.json"))[:3]]
    values = [value for example in examples for value in (example, *changed(example))]
    assert not examples or 0 < refused_by_both(schema, values[:2000]) < len(values)
