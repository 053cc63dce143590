"""What the cell asks its bench, and what it makes of the rows that come back."""

from collections.abc import Iterable
from typing import Any

from workcells.api import Bench, Wanted
from workcells.cells.issue_review.decision import Row
from workcells.cells.issue_review.references import Claim, claims_about, closing_targets, is_revert

CHANGELOG_AT = 8
"""A pull request that closes this many others is a release or a digest, not a fix of one."""
_DECIDING = ("reverts", "partial", "closes", "replaces", "related", "hedged", "names")


def naming(key: str) -> Wanted:
    """The rows whose text names `key`."""
    return "mentions_of", {"key": key, "limit": 50}


def alike(item: Row) -> Wanted:
    """The pull requests that share the rarest words of the item's title."""
    return "search_subjects", {"key": item["key"], "terms": [item["title"]], "kinds": ["pull_request"], "limit": 20}


def ask_bench(bench: Bench, wanted: Wanted) -> list[dict[str, Any]]:
    """Return the tool's rows."""
    tool, arguments = wanted
    rows: list[dict[str, Any]] = bench.call(tool, **arguments)
    return rows


def claims_on(item: Row, rows: Iterable[Row]) -> list[Claim]:
    """Return, for each pull request among `rows`, the claim about `item` that decides: a denial before an assertion."""
    claims = []
    for row in rows:
        if row["kind"] == "pull_request" and row["key"] != item["key"]:
            found = claims_about(row, item["key"])
            if found:
                claims.append(min(found, key=lambda claim: _DECIDING.index(claim.says)))
    return claims


def can_settle(row: Row, item: Row) -> bool:
    """True when the pull request was merged after the item was opened, by no bot, as no revert and no digest."""
    return bool(
        row["merged_at"]
        and row["merged_at"] > item["created_at"]
        and not str(row["author"]).endswith("[bot]")
        and not is_revert(row)
        and len(closing_targets(row)) < CHANGELOG_AT
    )


def is_undone(row: Row, bench: Bench) -> bool:
    """True when another merged pull request reverts this one."""
    return any(
        later["merged_at"]
        and later["merged_at"] >= row["merged_at"]
        and (is_revert(later) or any(claim.says == "reverts" for claim in claims_about(later, row["key"])))
        for later in ask_bench(bench, naming(row["key"]))
        if later["kind"] == "pull_request" and later["key"] != row["key"]
    )
