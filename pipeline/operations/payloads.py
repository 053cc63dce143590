"""Items by what is in their payload: a rule over the bytes of each, bounded, with how many payloads it has read."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from artifacts.blobs import BlobStore, read_bodies
from contracts.errors import BadInput, ExpressionFailed
from contracts.expressions import Expression
from queues.database import Connection, transaction
from queues.lookup import Filter, list_items

MAX_SCANNED = 20_000
"""Payloads that one call reads."""
_PAGE_ROWS = 500


@dataclass(slots=True)
class ScanStats:
    """What a rule has read so far."""

    payloads: int = 0
    no_answer: int = 0
    """Those for which the rule has no answer, such as a missing field; they do not match."""
    example: str = ""
    """The first of those, and why."""

    def add(self, more: "ScanStats") -> None:
        """Count what was read later as well."""
        self.payloads += more.payloads
        self.no_answer += more.no_answer
        self.example = self.example or more.example


@dataclass(slots=True)
class Matches:
    """What a rule found."""

    items: list[dict[str, Any]] = field(default_factory=list)
    scan: ScanStats = field(default_factory=ScanStats)
    next_cursor: UUID | None = None
    """Where the next call goes on; None when there is nothing after it."""


def compile_rule(text: str) -> Expression:
    """Return a compiled rule over `item`, an item's payload. Raises BadInput."""
    return Expression(text, variables=("item",), place="--where", error=BadInput)


def find_matching(
    conn: Connection, store: BlobStore, workspace: UUID, wanted: Filter, rule: Expression, *, limit: int,
    after: UUID | None = None,
) -> Matches:  # fmt: skip
    """Return up to `limit` items that match both the filter and the rule, from at most MAX_SCANNED payloads."""
    found = Matches()
    while True:
        with transaction(conn, workspace):
            page = list_items(conn, wanted, limit=_PAGE_ROWS, after=after)
            bodies = read_bodies(conn, store, ((row["id"], row["payload_sha256"]) for row in page))
        for row in page:
            after = row["id"]
            if _matches(rule, row, bodies.get((row["id"], row["payload_sha256"])), found.scan):
                found.items.append(row)
                if len(found.items) == limit:
                    found.next_cursor = after
                    return found
        if len(page) < _PAGE_ROWS:
            return found
        if found.scan.payloads >= MAX_SCANNED:
            found.next_cursor = after
            return found


def _matches(rule: Expression, row: dict[str, Any], body: bytes | None, scan: ScanStats) -> bool:
    scan.payloads += 1
    try:
        if body is not None:
            return rule.is_true({"item": json.loads(body)})
        why = "its payload is not stored"
    except ExpressionFailed as error:
        why = error.message
    scan.no_answer += 1
    scan.example = scan.example or f"{row['subject']}: {why}"
    return False
