"""What must hold after any run, however rough: the seventeen invariants, checked in one snapshot.

Each module holds the checks of one group: `conservation` 1 and 17, `history` 2, 3, 4 and 14, `approval` 5, 6 and 7,
`stored` 9, `validity` 10 and the bytes of 7, `motion` 12 and 16, `walls` 13 and 15.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psycopg
from artifacts.blobs import BlobStore
from pipeline.doctor.invariants import approval, conservation, history, motion, stored, validity, walls
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts
from pipeline.doctor.invariants.pins import read_pins
from queues.database import Connection

MOST = 20
"""Violations of one invariant that are listed one by one; the rest are counted."""

TITLES: dict[int, str] = {
    1: "a batch accounts for every row once",
    2: "history is whole, legal and ends where the item is",
    3: "one open lease per item, growing fences, no result of a lost lease",
    4: "attempts are numbered without gaps and stay under their ceilings",
    5: "an action is applied at most once and every approval has one end",
    6: "no apply without the decisions that its tier demands",
    7: "what was approved, sent and recorded are the same bytes",
    8: "the ledger is the sum of its calls and budgets hold",
    9: "stored bytes exist, match their names, and none is left over",
    10: "artifacts and attempts satisfy their pinned contract, which never changed",
    11: "the audit chain recomputes",
    12: "nothing is stranded",
    13: "rows stay in their workspace, behind forced row security",
    14: "rework rounds and hops are within their limits",
    15: "no idle transaction, no prepared one",
    16: "recovery has nothing left to do",
    17: "every item is in exactly one place, for one reason",
}
NOT_BUILT: dict[int, str] = {
    8: "calls, ledger and budgets are not built in this version",
    11: "audit rows are not sealed into a chain in this version",
}

Status = Literal["ok", "violated", "vacuous"]

_CHECKS: tuple[tuple[tuple[int, ...], Callable[[CheckContext, ViolationCounts], None]], ...] = (
    ((1,), conservation.check_batches),
    ((17,), conservation.check_conservation),
    ((2, 3, 4, 14), history.check_moves),
    ((3,), history.check_results),
    ((4,), history.check_ceilings),
    ((5,), approval.check_ends),
    ((6,), approval.check_decisions),
    ((7,), approval.check_hashes),
    ((9,), stored.check_bodies),
    ((9,), stored.check_files),
    ((10,), validity.check_contracts),
    ((7, 10), validity.check_artifacts),
    ((10,), validity.check_attempts),
    ((12,), motion.check_stranded),
    ((16,), motion.check_overdue),
    ((13,), walls.check_workspaces),
    ((13,), walls.check_security),
    ((15,), walls.check_sessions),
)

# The snapshot lives as long as the check takes; the role's limits are for short work. Every statement reads whole
# tables, and the views show ids as text, of which the planner knows little: a nested loop would be a wrong guess.
_SESSION = """
SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; SET LOCAL enable_nestloop = off
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result for one invariant."""

    number: int
    title: str
    status: Status
    total: int
    """How many violations there are."""
    violations: tuple[str, ...]
    """The first of them."""
    note: str = ""
    """Why it was not checked, where its status is `vacuous`."""


def check_all(
    conn: Connection, store: BlobStore, *, monitor: Connection | None = None, idle_seconds: float = 10.0, most: int = MOST
) -> tuple[Checked, ...]:
    """Return the result for each invariant, all of them in one read-only snapshot of the database.

    `conn` is a connection as the role audit; `monitor`, one that may see what other sessions do.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return check_here(conn, store, monitor=monitor, idle_seconds=idle_seconds, most=most)


def check_here(
    conn: Connection, store: BlobStore, *, monitor: Connection | None = None, idle_seconds: float = 10.0, most: int = MOST
) -> tuple[Checked, ...]:
    """Return the result for each invariant as the transaction that is open on `conn` sees it.

    A check that the data itself makes impossible (a body that is no JSON, say) is a violation, not an error.
    """
    counts = ViolationCounts(most)
    conn.execute(_SESSION)
    context = CheckContext(conn, store, read_pins(conn), monitor, idle_seconds)
    for numbers, check in _CHECKS:
        try:
            with conn.transaction():
                check(context, counts)
        except psycopg.DataError as error:
            counts.add(numbers[-1], f"cannot be checked: {error.diag.message_primary or type(error).__name__}")
    return tuple(_result(number, counts) for number in TITLES)


def _result(number: int, counts: ViolationCounts) -> Checked:
    violations, total = tuple(counts.violations[number]), counts.totals[number]
    note = NOT_BUILT.get(number) or counts.unseen.get(number, "")
    status: Status = "violated" if total else "vacuous" if note else "ok"
    return Checked(number, TITLES[number], status, total, violations, note)
