"""Decides, without a model, whether an open issue or pull request can be closed, and says why.

Findings are tried in order: a merged pull request resolves the issue, or took the place of this pull request;
a label says that it is settled. Each looks for objections before it proposes anything. Policy (protected
labels, maintainers' own items, ages) is the gate's, in contract.yaml: what the gate objects to is kept open
by the next attempt, with what was found.
"""

from typing import Any

from workcells.api import Bench, CellCode, Outcome, Proposal, Refusal, Wanted, cell
from workcells.cells.issue_review.decision import keep
from workcells.cells.issue_review.labelled import labelled
from workcells.cells.issue_review.lookups import alike, ask_bench, naming
from workcells.cells.issue_review.resolved import resolved
from workcells.cells.issue_review.superseded import superseded


def wants(issue: dict[str, Any]) -> list[Wanted]:
    """Return the look-ups that most items need, so that a batch makes each once."""
    return [naming(issue["key"]), alike(issue)]


def review(issue: dict[str, Any], bench: Bench) -> Outcome:
    """Return a Proposal to close or to ask, or a Draft that keeps the item open with the reason."""
    if issue["state"] != "open":
        return Refusal(code="item.not_open", message=f"{issue['key']} is not open, and only open items are reviewed")
    rows = ask_bench(bench, naming(issue["key"]))
    find = superseded if issue["kind"] == "pull_request" else resolved
    outcome = find(issue, rows, bench)
    if not isinstance(outcome, Proposal):
        outcome = labelled(issue, rows) or outcome
    if outcome is None:
        return keep(issue, finding="nothing_found", why="no merged change and no label settles it", confidence=0.9)
    objected = {found.code for found in bench.findings if found.code.startswith("policy.")}
    policies = [code.removeprefix("policy.").replace("_", " ") for code in sorted(objected)]
    if policies and isinstance(outcome, Proposal):
        value = outcome.value
        return keep(
            issue,
            finding=value["finding"],
            why=f"policy: {', '.join(policies)}",
            confidence=outcome.confidence,
            evidence=outcome.evidence,
            basis=value["basis"],
        )
    return outcome


CELL: CellCode = cell(review, wants=wants)
