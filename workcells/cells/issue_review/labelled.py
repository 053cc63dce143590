"""The finding `labelled_but_open`: a label says that the item is settled, and it is still open."""

import re
from collections.abc import Sequence

from workcells.api import Proposal
from workcells.cells.issue_review import wording
from workcells.cells.issue_review.decision import Row, ask, cites, close
from workcells.cells.issue_review.resolved import is_umbrella

FINDING = "labelled_but_open"
REASONS = {"duplicate": "duplicate", "wontfix": "not_planned", "invalid": "not_planned"}
"""Settling labels, spelt without punctuation, and the reason for closing that each stands for."""

_WANTED = re.compile(r"help.?wanted|good.?(?:first|second)|accepted|confirmed|in.?progress", re.IGNORECASE)


def labelled(item: Row, rows: Sequence[Row]) -> Proposal | None:
    """Return what follows from the labels of `item`; `rows` are those that name it."""
    words = {_bare(label) for label in item["labels"]}
    word = next((settling for settling in REASONS if settling in words), None)
    if word is None:
        return None
    evidence = (cites(item, f"it carries the label “{word}”"),)
    worked_on = any(row["kind"] == "pull_request" and row["state"] == "open" for row in rows)
    wanted = any(_WANTED.search(label) for label in item["labels"])
    if worked_on or wanted or is_umbrella(item) or item["state_reason"] == "reopened":
        return ask(
            item,
            finding=FINDING,
            question=wording.asks_about_label(word),
            summary=f"It carries the label “{word}”, but something else says that it is wanted.",
            confidence=0.65,
            evidence=evidence,
        )
    return close(
        item,
        finding=FINDING,
        reason=REASONS[word] if item["kind"] == "issue" else None,
        comment=wording.closes_as_labelled(word),
        summary=f"It carries the label “{word}” and is still open.",
        confidence=0.85,
        evidence=evidence,
    )


def _bare(label: str) -> str:
    """Return `wontfix` for "Won't fix", "resolution: wontfix" and the like."""
    return re.sub(r"[^a-z]", "", re.split(r"[:/]", label.lower())[-1])
