"""The finding `superseded_pr`: another pull request was merged in the place of one that is still open."""

import re
from collections.abc import Sequence

from workcells.api import Bench, Evidence, Proposal
from workcells.cells.issue_review import wording
from workcells.cells.issue_review.decision import Row, ask, cites, close, day, days_later, name_of, says
from workcells.cells.issue_review.lookups import alike, ask_bench, can_settle, claims_on, is_undone

FINDING = "superseded_pr"

_WORD = re.compile(r"[^\W_]+(?:[.'_-]+[^\W_]+)*")
_RECURRING = re.compile(r"[^\w]*(?:update|bump|upgrade|sync|release|pin)\b", re.IGNORECASE)
"""Titles of chores that come back: the same words need not mean the same change."""
_NOISE = re.compile(
    r"a|an|the|of|to|in|on|for|and|or|with|from|by|at|as|is|are|be|this|that|its?|into|when|if|wip|draft|feat|feature|fix|fixe[sd]"
    r"|fixing|add|adds|added|adding|support|allow|make|use|using|updated?|updates|improve|chore|new"
)


def superseded(pull: Row, rows: Sequence[Row], bench: Bench) -> Proposal | None:
    """Return what follows from merged pull requests that replace `pull` by word or repeat its title."""
    for claim in sorted(claims_on(pull, rows), key=lambda claim: str(claim.row["merged_at"]), reverse=True):
        # "Fixes #7" repairs what pull request 7 brought; only replacing or closing it takes its place.
        takes_its_place = claim.says == "replaces" or (claim.says == "closes" and claim.text[:3].lower() == "clo")
        if takes_its_place and can_settle(claim.row, pull) and not is_undone(claim.row, bench):
            said = says(claim, "the merged pull request says that it takes the place of this one")
            return _give_way(pull, claim.row, said, confidence=0.93)
    mine = _words(pull["title"])
    if len(mine) < 3:
        return None
    for row in ask_bench(bench, alike(pull)):
        if row["matched"] < 2 or _words(row["title"]) != mine or not can_settle(row, pull) or is_undone(row, bench):
            continue
        said = cites(row, "the merged pull request carries the same title")
        same_hand = row["author"] == pull["author"] != "ghost" and row["created_at"] > pull["created_at"]
        if same_hand and not _RECURRING.match(pull["title"]):
            return _give_way(pull, row, said, confidence=0.87)
        return _inquire(pull, row, said, "carries the same title")
    return None


def _give_way(pull: Row, row: Row, said: Evidence, *, confidence: float) -> Proposal:
    if days_later(pull["updated_at"], row["merged_at"]) > 14:
        return _inquire(pull, row, said, "takes its place, but this one was worked on later")
    name, merged_on = name_of(row, pull), day(row["merged_at"])
    return close(
        pull,
        finding=FINDING,
        reason=None,
        comment=wording.closes_as_superseded(name, merged_on),
        summary=f"Merged pull request {name} ({merged_on}) takes the place of this one.",
        confidence=confidence,
        evidence=(said, cites(row, f"merged on {merged_on}")),
        basis=row,
    )


def _inquire(pull: Row, row: Row, said: Evidence, what: str) -> Proposal:
    name, merged_on = name_of(row, pull), day(row["merged_at"])
    return ask(
        pull,
        finding=FINDING,
        question=wording.asks_whether_superseded(name, merged_on),
        summary=f"Merged pull request {name} ({merged_on}) {what}.",
        confidence=0.7,
        evidence=(said, cites(row, f"merged on {merged_on}")),
        basis=row,
    )


def _words(title: str) -> frozenset[str]:
    """Return the words that make a title this one: numbers and names stay, what every title says goes."""
    return frozenset(word for word in _WORD.findall(title.lower()) if not _NOISE.fullmatch(word))
