"""The finding `resolved_by_merged_pr`: a merged pull request says that it fixes an issue that is still open."""

import re
from collections.abc import Iterator, Sequence

from workcells.api import Bench, Draft, Evidence, Proposal
from workcells.cells.issue_review import wording
from workcells.cells.issue_review.decision import Row, ask, cites, close, day, days_later, keep, name_of, says
from workcells.cells.issue_review.lookups import alike, ask_bench, can_settle, claims_on, is_undone
from workcells.cells.issue_review.references import Claim

FINDING = "resolved_by_merged_pr"
LANDMARK_AT = 4
"""An issue that this many merged pull requests name is a theme; none of them alone settles it."""

_UMBRELLA = re.compile(
    r"\b(?:tracking|tracker|meta|umbrella|roadmap|epic|checklist|master[ -]issue|wish-?list|call[ ]for)\b|\[tasks?\]",
    re.IGNORECASE,
)
_STILL = re.compile(
    r"\b(?:still[ ](?:(?:the[ ])?same|broken|happen\w*|present|fail\w*|reproduc\w*|occur\w*|there|see(?:ing)?|crash\w*"
    r"|an[ ]issue)|(?:not|n['’]t)[ ](?:really[ ])?(?:fixed|solved|resolved)|is[ ]back)\b",
    re.IGNORECASE,
)
_TASK = re.compile(r"^[ \t]*[-*+][ \t]+\[[ xX]\]", re.MULTILINE)
_TASK_WITH_REFERENCE = re.compile(r"^[ \t]*[-*+][ \t]+\[[ xX]\][^\n]{0,200}(?:#\d|/(?:issues|pull)/\d)", re.MULTILINE)


def resolved(issue: Row, rows: Sequence[Row], bench: Bench) -> Proposal | Draft | None:
    """Return what follows from the pull requests that name `issue`; None when they settle nothing."""
    claims = claims_on(issue, rows)
    merged = [claim for claim in claims if can_settle(claim.row, issue)]
    closing = [claim for claim in merged if claim.says == "closes"]
    fixes = [claim for claim in closing if not is_undone(claim.row, bench)]
    if not fixes:
        return _perhaps(issue, claims, merged, bench) or _kept_for(issue, closing, merged)
    fix = max(fixes, key=lambda claim: str(claim.row["merged_at"]))
    name, merged_on = name_of(fix.row, issue), day(fix.row["merged_at"])
    said = says(fix, "the merged pull request says that it fixes this issue")
    for why, against in _objections(issue, claims, fix):
        return keep(issue, finding=FINDING, why=why, confidence=0.8, evidence=(said, against), basis=fix.row)
    confidence = 0.92 if " for " in fix.text else 0.95  # "fix for #7" is no keyword of GitHub's
    if days_later(issue["updated_at"], fix.row["merged_at"]) > 30:
        confidence -= 0.07  # somebody was here long after the merge, and comments are not read
    return close(
        issue,
        finding=FINDING,
        reason="completed",
        comment=wording.closes_as_completed(name, merged_on),
        summary=f"Merged pull request {name} ({merged_on}) says that it fixes this issue.",
        confidence=round(confidence, 2),
        evidence=(said, cites(fix.row, f"merged on {merged_on}")),
        basis=fix.row,
    )


def _perhaps(issue: Row, claims: Sequence[Claim], merged: Sequence[Claim], bench: Bench) -> Proposal | None:
    """Return the question whether a merged pull request that only hints at the issue resolves it."""
    hints = [claim for claim in merged if claim.says in ("hedged", "names")]
    if not hints or len(merged) >= LANDMARK_AT:
        return None
    shared = {row["key"]: row["matched"] for row in ask_bench(bench, alike(issue))}
    for hint in sorted(hints, key=lambda claim: str(claim.row["merged_at"]), reverse=True):
        # "requested in #7" and a bare "#7" say little; two rare words of the title in common say more.
        speaks = hint.says == "hedged" and not hint.text[:6].lower().startswith(("report", "reques"))
        alike_words = shared.get(hint.row["key"], 0)
        if not speaks and alike_words < 2:
            continue
        if is_undone(hint.row, bench) or any(True for _ in _objections(issue, claims, hint)):
            continue
        name, merged_on = name_of(hint.row, issue), day(hint.row["merged_at"])
        return ask(
            issue,
            finding=FINDING,
            question=wording.asks_whether_resolved(name, merged_on),
            summary=f"Merged pull request {name} ({merged_on}) mentions this issue and may resolve it.",
            confidence=0.75 if speaks and alike_words else 0.65,
            evidence=(says(hint, "a merged pull request names this issue"), cites(hint.row, f"merged on {merged_on}")),
            basis=hint.row,
        )
    return None


def _kept_for(issue: Row, undone: Sequence[Claim], merged: Sequence[Claim]) -> Draft | None:
    """Return the report of a fix that was taken back or leaves a part; None when there is neither."""
    parts = [claim for claim in merged if claim.says == "partial"]
    if not undone and not parts:
        return None
    claim = (undone or parts)[-1]
    why = f"merged pull request {name_of(claim.row, issue)} " + ("was reverted" if undone else "says that more is needed")
    said = says(claim, "what the pull request says about this issue", "context")
    return keep(issue, finding=FINDING, why=why, confidence=0.8, evidence=(said,), basis=claim.row)


def _objections(issue: Row, claims: Sequence[Claim], fix: Claim) -> Iterator[tuple[str, Evidence]]:
    """Yield what speaks against closing `issue` for `fix`, the weightiest first."""
    if issue["state_reason"] == "reopened":
        yield "it was reopened", cites(issue, "the issue was reopened", "contradicts")
    if is_umbrella(issue):
        yield "it tracks several pieces of work", cites(issue, "the issue is a list of work", "contradicts")
    if issue["updated_at"] > fix.row["merged_at"] and _STILL.search(issue["body"]):
        why = "its text says that the problem is still there, and it changed after the merge"
        yield why, cites(issue, "the issue says that the problem is still there", "contradicts")
    for claim in claims:
        if claim.row["key"] == fix.row["key"]:
            continue
        name = name_of(claim.row, issue)
        if claim.row["state"] == "open" and claim.says in ("closes", "hedged"):
            yield f"open pull request {name} also works on it", says(claim, "an open one works on this", "contradicts")
        elif claim.says == "partial" and claim.row["merged_at"]:
            yield f"merged pull request {name} says that more is needed", says(claim, "more is needed", "contradicts")


def is_umbrella(issue: Row) -> bool:
    """True when the issue stands for several pieces of work, by its title, its labels or its task list."""
    body = issue["body"]
    return bool(
        _UMBRELLA.search(issue["title"])
        or any(_UMBRELLA.search(label) for label in issue["labels"])
        or _TASK_WITH_REFERENCE.search(body)
        or len(_TASK.findall(body)) >= 3
    )
