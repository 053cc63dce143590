"""Examples as a test: a cell run on what each example gives it, with canned answers instead of tools, and the gate on what it gave."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from contracts.canonical import canonical
from contracts.contract import Contract
from contracts.errors import ShopfloorError
from contracts.gate import Item, contract_findings, run_checks
from contracts.language import Example
from contracts.nouns import Citation, Draft, Proposal
from workcells.bench import ItemBench, call_key
from workcells.registry import Cell


@dataclass(frozen=True, slots=True)
class Tried:
    """What one example came to."""

    name: str
    kind: str
    """What the example expects: draft, proposal, refusal, …"""
    why: str
    """Empty when the cell gave just that and the gate passes it; else a diff from the expected to the given, the accident, or what the
    gate found, a line each."""
    note: str = ""
    """What the gate would do with it that is no fault: send it to a person, say, because it is not sure."""


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
            why = _difference(example, given) or "\n".join(_found(cell.contract, example))
            yield Tried(example.name, kind, why, "" if why else _doubt(cell.contract, example))


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


def _found(contract: Contract, example: Example) -> Iterator[str]:
    """Yield what the artifact stage and the gate would find, but for doubts: an example may show those."""
    outcome = example.expected
    if not isinstance(outcome, (Draft, Proposal)):
        return
    for finding in contract_findings(contract, outcome, len(canonical(outcome.value))):
        yield f"{finding.code} {finding.place}: {finding.message}"
    subjects = dict(_subjects(call["answer"] for call in example.tools))
    for check in run_checks(contract, outcome, _item(example, outcome), subjects, is_form_checked=True):
        if check.name != "uncertainty":
            yield from (f"{one.finding.code} {one.finding.place}: {one.finding.message} (check {check.name})" for one in check.failed)


def _doubt(contract: Contract, example: Example) -> str:
    confidence = getattr(example.expected, "confidence", 1.0)
    if contract.uncertainty is None or confidence >= contract.uncertainty.below:
        return ""
    return f"its confidence is {confidence:g}, below {contract.uncertainty.below:g}: then {contract.uncertainty.then}"


def _item(example: Example, outcome: Draft | Proposal) -> Item:
    """Return the item as the gate sees it. Which fields are its subject and revision, a flow says: here it is what evidence names so."""
    texts = {value for value in example.item.values() if isinstance(value, str)}
    sources = [piece.source for piece in outcome.evidence if piece.source.subject in texts]
    revisions = [source.revision for source in sources if isinstance(source, Citation) and source.revision in texts]
    return Item(sources[0].subject if sources else "", revisions[0] if revisions else "", example.item, example.as_of)


def _subjects(answers: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the subjects in what tools answered, by key."""
    for answer in answers:
        if isinstance(answer, list):
            yield from _subjects(answer)
        elif isinstance(answer, dict) and isinstance(answer.get("key"), str) and "revision" in answer:
            yield answer["key"], answer
