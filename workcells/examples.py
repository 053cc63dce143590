"""Examples as a test: a cell run on what each example gives it, with canned answers instead of tools."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from contracts.errors import ShopfloorError
from contracts.language import Example
from workcells.bench import ItemBench, call_key
from workcells.registry import Cell


@dataclass(frozen=True, slots=True)
class Tried:
    """What one example came to."""

    name: str
    kind: str
    """What the example expects: draft, proposal, refusal, …"""
    why: str
    """Empty when the cell gave just that; else a diff from the expected to the given, or the accident."""


def try_examples(cell: Cell) -> Iterator[Tried]:
    """Yield for each example what the cell made of it. Runs the cell's code in this process."""
    allowed = frozenset(cell.contract.tools_allow)
    for example in cell.source.examples:
        kind = type(example.expected).__name__
        try:
            given = cell.code.run(example.item, _bench(example, allowed))
        except ShopfloorError as error:
            yield Tried(example.name, kind, str(error))
        except Exception as error:  # noqa: BLE001 - an author's code may raise anything; that is what is being found out
            yield Tried(example.name, kind, f"raised {type(error).__name__}: {error}")
        else:
            yield Tried(example.name, kind, _difference(example, given))


def _bench(example: Example, allowed: frozenset[str]) -> ItemBench:
    answers = {call_key(call["tool"], call["arguments"]): call["answer"] for call in example.tools}
    return ItemBench(allowed=allowed, tools={}, answers=answers, as_of=example.as_of)


def _difference(example: Example, given: Any) -> str:
    if given == example.expected:
        return ""
    if type(given) is not type(example.expected):
        return f"expected {type(example.expected).__name__}, got {type(given).__name__}"
    before, after = _lines(example.expected), _lines(given)
    return "\n".join(unified_diff(before, after, "expected", "given", lineterm="", n=1))


def _lines(outcome: Any) -> list[str]:
    return json.dumps(outcome.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False).splitlines()
