"""What a cell gave, held to its contract: first its form, then what it says. The stages ask here, and so does `contract check`.

Nothing here looks anything up: what evidence cites is handed in.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contracts.contract import Check, Contract, OnFail, Uncertainty
from contracts.errors import ExpressionFailed
from contracts.nouns import Citation, Draft, Evidence, Finding, Outcome, Proposal


class Failed(NamedTuple):
    """A finding, and where its check sends the work."""

    finding: Finding
    on_fail: OnFail


class Checked(NamedTuple):
    """One check and what it found; nothing is how it passes."""

    name: str
    failed: Sequence[Failed]


class Item(NamedTuple):
    """The item that was worked on, as its cell saw it."""

    subject: str
    revision: str
    payload: Mapping[str, Any]
    as_of: str


def contract_findings(contract: Contract, outcome: Outcome, size_bytes: int) -> list[Finding]:
    """Return what of a draft or proposal breaks the contract. `size_bytes` is that of its value as canonical JSON."""
    value, evidence = _parts(outcome)
    findings = list(contract.output_findings(value))
    if size_bytes > contract.max_bytes:
        findings.append(Finding(code="contract.bytes", message=f"expected at most {contract.max_bytes} bytes, got {size_bytes}"))
    if isinstance(outcome, Proposal):
        findings += contract.action_findings(outcome.action.name, outcome.action.payload, outcome.action.precondition)
    if contract.evidence_required and not evidence:
        findings.append(Finding(code="contract.evidence", message="expected at least one piece of evidence, got none"))
    for no, piece in enumerate(evidence):
        if piece.source.kind not in contract.evidence_sources:
            message = f"may cite {' or '.join(contract.evidence_sources)}, got {piece.source.kind}"
            findings.append(Finding(code="contract.evidence_source", message=message, place=f"/evidence/{no}"))
    return findings


def run_checks(
    contract: Contract, outcome: Outcome, item: Item, subjects: Mapping[str, Mapping[str, Any]], *, is_form_checked: bool
) -> list[Checked]:  # fmt: skip
    """Return every check of the gate with what it found, that of certainty last.

    `subjects` are the other subjects that evidence may cite, by key. `is_form_checked` says that `contract_findings` found nothing.
    """
    value, evidence = _parts(outcome)
    values = {"item": item.payload, "output": value, "as_of": item.as_of}
    all_hold = contract.rules_hold(values)
    checked = []
    for check in contract.qa:
        if check.kind == "schema":
            failed = [] if is_form_checked else [Failed(finding, "rework") for finding in contract.output_findings(value)]
        elif check.kind == "evidence":
            failed = [Failed(finding, "rework") for finding in _unresolved(evidence, item, subjects)]
        else:
            failed = [] if all_hold else _broken(check, values)
        checked.append(Checked(check.name, failed))
    if contract.uncertainty is not None:
        checked.append(Checked("uncertainty", _doubts(contract.uncertainty, outcome)))
    return checked


def _parts(outcome: Outcome) -> tuple[dict[str, Any], Sequence[Evidence]]:
    return (outcome.value, outcome.evidence) if isinstance(outcome, (Draft, Proposal)) else ({}, ())


def _doubts(uncertainty: Uncertainty, outcome: Outcome) -> list[Failed]:
    """Return a finding when the cell is less sure of its work than its contract lets pass."""
    confidence = getattr(outcome, "confidence", 1.0)
    if confidence >= uncertainty.below:
        return []
    finding = Finding(code="qa.uncertain", message=f"its confidence is {confidence:g}, below {uncertainty.below:g}")
    return [Failed(finding, "refuse" if uncertainty.then == "refuse" else "person")]


def _broken(check: Check, values: Mapping[str, Any]) -> list[Failed]:
    """Return a rule's finding when it does not hold. A rule without an answer fails closed: a person looks."""
    try:
        return [] if check.holds(values) else [Failed(Finding(code=check.code, message=check.message), check.on_fail)]
    except ExpressionFailed as error:
        return [Failed(Finding(code=check.code, message=f"the rule has no answer: {error.message}"[:300]), "person")]


def _unresolved(evidence: Sequence[Evidence], item: Item, subjects: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return a finding for each piece of evidence that does not say what its source says."""
    findings = []
    for no, piece in enumerate(evidence):
        source, place = piece.source, f"/evidence/{no}"
        own = source.subject == item.subject
        subject = item.payload if own else subjects.get(source.subject)
        if subject is None:
            findings.append(Finding(code="evidence.unknown_source", message=f"no item {source.subject[:80]!r} is known", place=place))
        elif isinstance(source, Citation):
            known = item.revision if own else subject["revision"]
            if known != source.revision:
                findings.append(Finding(code="evidence.stale", message=f"cites revision {source.revision}, known is {known}", place=place))
        elif str(subject.get(source.field) or "")[source.start : source.end] != source.text:
            message = f"the text is not at {source.field}[{source.start}:{source.end}]"
            findings.append(Finding(code="evidence.misquote", message=message, place=place))
    return findings
