"""The answers of this cell, each built in one place: verdict, action and evidence cannot disagree."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from workcells.api import Action, Citation, Draft, Evidence, Proposal, Quote
from workcells.cells.issue_review.references import Claim

Row = Mapping[str, Any]
"""A github_issue@1 row, as an item or as a tool returns it."""

_LONG_TOKEN = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_ADDRESS = re.compile(r"https?://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+")
QUOTE_CHARS = 120


def close(
    item: Row, *, finding: str, reason: str | None, comment: str, summary: str, confidence: float,
    evidence: Sequence[Evidence], basis: Row | None = None,
) -> Proposal:  # fmt: skip
    """Return the proposal to close `item` and say why; `reason` is None for a pull request, which takes none."""
    payload: dict[str, Any] = {"state": "closed", "comment": {"body": comment}}
    if reason:
        payload["state_reason"] = reason
    decision = {"do": "close", "state_reason": reason, "comment": comment}
    precondition = {
        "state": item["state"],
        "state_reason": item["state_reason"],
        "title": item["title"],
        "body_sha256": hashlib.sha256(item["body"].encode()).hexdigest(),
        "labels": item["labels"],
    }
    return Proposal(
        value=_value(finding, decision, confidence, summary, evidence, basis),
        action=Action(name="close", target=item["key"], payload=payload, precondition=precondition),
        evidence=tuple(evidence),
        confidence=confidence,
    )


def ask(
    item: Row, *, finding: str, question: str, summary: str, confidence: float,
    evidence: Sequence[Evidence], basis: Row | None = None,
) -> Proposal:  # fmt: skip
    """Return the proposal to put `question` to the people of `item`."""
    return Proposal(
        value=_value(finding, {"do": "ask", "question": question}, confidence, summary, evidence, basis),
        action=Action(
            name="comment",
            target=item["key"],
            payload={"body": question},
            precondition={"state": item["state"], "labels": item["labels"]},
        ),
        evidence=tuple(evidence),
        confidence=confidence,
    )


def keep(
    item: Row, *, finding: str, why: str, confidence: float,
    evidence: Sequence[Evidence] = (), basis: Row | None = None,
) -> Draft:  # fmt: skip
    """Return the decision to leave `item` as it is; it proposes nothing and reports what was found."""
    evidence = evidence or (cites(item, "the item as it was read", "context"),)
    value = _value(finding, {"do": "keep_open", "why": why}, confidence, f"Stays open: {why}.", evidence, basis)
    return Draft(value=value, evidence=tuple(evidence), confidence=confidence)


def _value(
    finding: str, decision: dict[str, Any], confidence: float, summary: str,
    evidence: Sequence[Evidence], basis: Row | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "finding": finding,
        "decision": decision,
        "confidence": confidence,
        "summary": summary,
        "basis": {name: basis[name] for name in ("key", "revision", "merged_at")} if basis else None,
        "evidence": [piece.model_dump() for piece in evidence],
    }


def says(claim: Claim, what: str, stance: Any = "supports") -> Evidence:
    """Return evidence that quotes the phrase, or its reference alone when the phrase is long or may hold a secret."""
    start, text = claim.start, claim.text
    if len(text) > QUOTE_CHARS or _LONG_TOKEN.search(_ADDRESS.sub("", text)):
        start, text = claim.reference_start, str(claim.row[claim.field])[claim.reference_start : claim.end]
    source = Quote(subject=claim.row["key"], field=claim.field, start=start, end=claim.end, text=text)
    return Evidence(claim=what, stance=stance, confidence=0.95, source=source)


def cites(row: Row, what: str, stance: Any = "supports") -> Evidence:
    """Return evidence that is a whole item at the revision that was read."""
    revision = row.get("revision") or row["updated_at"]
    return Evidence(claim=what, stance=stance, confidence=0.9, source=Citation(subject=row["key"], revision=revision))


def name_of(row: Row, item: Row) -> str:
    """Return `#12`, or `owner/repo#12` when the two live in different repositories."""
    repo, _, number = str(row["key"]).rpartition("#")
    return f"#{number}" if repo == str(item["key"]).rpartition("#")[0] else f"{repo}#{number}"


def day(instant: str) -> str:
    """Return the date of an ISO instant."""
    return instant[:10]


def days_later(later: str, earlier: str) -> float:
    """Return by how many days `later` follows `earlier`, both ISO 8601 with a zone."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() / 86400
