"""The main job, start to end: a tracker export in, every row accounted for, an inbox of proposals, and what was approved applied.

In a workspace of its own, with a floor, a tracker folder and a reviewer of its own: nothing of anybody's real work is touched.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import BadInput, Conflict, Refused
from contracts.lifecycle import Role
from pipeline import floors
from pipeline.access.tokens import ensure_actor, issue, revoke_token
from pipeline.crew.crew_file import running
from pipeline.crew.run import stop_background
from pipeline.crew.separation import run_as_apply_user
from pipeline.intake.from_file import open_intake
from pipeline.intake.intake import Report, take_in
from pipeline.intake.sources import Row, Source, open_source
from pipeline.review.clearances import Answer, Ballot, decide_all
from pipeline.startup.compose import Shop
from pipeline.startup.setup import SERVICE, load_registry
from queues.database import one_value, transaction
from workcells.appliers.tracker_seed import seed
from workcells.shapes import RowRefused
from workcells.shapes.catalogue import SHAPES
from workcells.shapes.github_issue import export_command, unsupported_findings

WORKSPACE = "demo"
FLOOR = Path(floors.__file__).with_name("demo.yaml")
FLOW = "issue-sweep"
REVIEWER = "demo-reviewer"
_LOOKED_AT = 200
_CREW_SECONDS = 15.0
"""A crew that was just started may take this long to say so."""


@dataclass(slots=True)
class Demonstration:
    """What one run of the demo came to."""

    report: Report
    ends: dict[str, int] = field(default_factory=dict)
    """Orders of the rows, by final state, or by what they wait for."""
    proposals: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    refused: list[str] = field(default_factory=list)
    """Why proposals could not be approved, one a proposal."""
    unsupported: list[tuple[str, str]] = field(default_factory=list)
    """Findings that the file's rows cannot support, with the field that is missing."""
    export_command: str = ""


def take_export(shop: Shop, path: Path, progress: Callable[[Report, Source], None]) -> Report:
    """Make a local tracker of the export's open items, then take the export in."""
    rows = list(_open_rows(path))  # read as ourselves: who applies may not be allowed to
    with run_as_apply_user(shop):
        seed(shop.demo_tracker_dir, rows)
    with shop.connect(Role.INTAKE, name="demo-intake") as conn, open_source(str(path)) as source:
        job = open_intake(
            conn, shop.store, shop.workspace_id(conn), FLOW, load_registry(), submitter=SERVICE, doorbell=shop.doorbell(), progress=progress
        )
        return take_in(job, source)


def _open_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that proposals may be about, in the flow's shape; what cannot be used is intake's to tell."""
    normalise = SHAPES["github_issue"].normalise
    with open_source(str(path)) as source:
        for row in source.rows():
            if isinstance(row, Row):
                try:
                    value = normalise(row.value)
                except RowRefused:
                    continue
                if value["state"] == "open":
                    yield value


def unsupported(path: Path) -> tuple[list[tuple[str, str]], str]:
    """Return which findings the export cannot support, and the command whose output can."""
    missing: dict[tuple[str, str], None] = {}
    repo = "OWNER/REPO"
    with open_source(str(path)) as source:
        kinds: dict[bool, dict[str, Any]] = {}
        for row in islice(source.rows(), _LOOKED_AT):
            if isinstance(row, Row):
                kinds.setdefault(bool(row.value.get("pull_request")) or "mergedAt" in row.value, row.value)
    for sample in kinds.values():
        missing |= dict.fromkeys(unsupported_findings(sample))
        try:
            repo = SHAPES["github_issue"].normalise(sample)["repo"]
        except RowRefused:
            continue
    return list(missing), export_command(repo) if missing else ""


_OPEN_WORK = """
SELECT count(*) FILTER (WHERE q.state IN ('ready', 'leased') OR q.wait = 'dependency')
  FROM queue q
 WHERE q.workspace_id = ANY (workspaces_in_use())
"""


def wait_for_quiet(shop: Shop, workspace: UUID, progress: Callable[[int], None], *, seconds: float) -> None:
    """Return when nothing moves any more: every item has ended or waits for a person. Raises Conflict at the deadline."""
    deadline = time.monotonic() + seconds
    starting = time.monotonic() + _CREW_SECONDS
    with shop.connect(Role.READ, name="demo") as conn:
        while True:
            with transaction(conn, workspace):
                moving: int = one_value(conn, _OPEN_WORK)
            if not moving:
                return
            if time.monotonic() > deadline:
                raise Conflict(
                    f"{moving} items still move after {seconds:.0f} s", hint="shopfloor status   ·   then run the same command again"
                )
            if time.monotonic() > starting and running(shop) is None:
                raise Refused("the crew ended before the work did", hint=f"look into {shop.data_dir / 'log'}, then: shopfloor up")
            progress(moving)
            time.sleep(0.1)


_ENDS = """
SELECT CASE WHEN o.state <> 'open' THEN o.state
            ELSE coalesce('waiting_' || q.wait, q.state, 'open') END, count(DISTINCT o.id)
  FROM batch_rows r
  JOIN orders o ON o.id = r.order_id
  LEFT JOIN items i ON i.order_id = o.id
  LEFT JOIN queue q ON q.item_id = i.id
 WHERE r.batch_id = %s GROUP BY 1 ORDER BY 1
"""
_PROPOSALS = """
SELECT p.state, count(*)
  FROM batch_rows r
  JOIN proposals p ON p.order_id = r.order_id
 WHERE r.batch_id = %s
 GROUP BY 1
 ORDER BY 1
"""
_FINDINGS = """
SELECT p.finding || ': ' || p.action, count(*)
  FROM batch_rows r
  JOIN proposals p ON p.order_id = r.order_id
 WHERE r.batch_id = %s
 GROUP BY 1
 ORDER BY 2 DESC, 1
"""


def account(shop: Shop, workspace: UUID, done: Demonstration) -> None:
    """Fill ends, proposals and findings of the orders that the batch's rows belong to, duplicates included."""
    with shop.connect(Role.READ, name="demo") as conn, transaction(conn, workspace):
        batch = [done.report.batch_id]
        done.ends = dict(conn.execute(_ENDS, batch).fetchall())
        done.proposals = dict(conn.execute(_PROPOSALS, batch).fetchall())
        done.findings = dict(conn.execute(_FINDINGS, batch).fetchall())


class _OpenOfBatch(NamedTuple):
    id: UUID
    sha256: bytes


_OPEN_OF_BATCH = """
SELECT p.id, p.sha256
  FROM batch_rows r
  JOIN proposals p ON p.order_id = r.order_id
 WHERE r.batch_id = %s
   AND p.is_open
   AND p.adapter = 'demo'
 ORDER BY p.id
"""


def approve_all(shop: Shop, workspace: UUID, done: Demonstration) -> None:
    """Approve the open proposals of the demo's own rows as its reviewer, ring the apply lanes, and note those that were refused.

    What somebody else's intake proposed stays as it is. The reviewer's token ends with this call.
    """
    with shop.connect(Role.OPERATE, name="demo") as conn:
        reviewer = ensure_actor(conn, workspace, REVIEWER, kind="person", roles=("reviewer",))
        token = issue(conn, workspace, reviewer, label="demo", by="demo", days=1)
    try:
        with shop.connect(Role.REVIEW, name="demo") as conn:
            with transaction(conn, workspace):
                cursor = conn.cursor(row_factory=class_row(_OpenOfBatch))
                found = cursor.execute(_OPEN_OF_BATCH, [done.report.batch_id]).fetchall()
            ballots = (Ballot(one.id, one.sha256) for one in found)
            decided = decide_all(conn, workspace, token.text, ballots, Answer.APPROVE, "demo", by=REVIEWER)
    finally:
        with shop.connect(Role.OPERATE, name="demo") as conn:
            revoke_token(conn, workspace, token.id, by="demo")
    shop.doorbell().ring({one.lane for one in decided if one.lane})
    done.refused = [str(one.error) for one in decided if one.error is not None]


def reset(shop_dir: Path, shop: Shop | None, stop_services: Callable[[Path], None]) -> list[str]:
    """Remove exactly what shopfloor keeps in its data folder, after stopping what runs there; return the names removed.

    Raises BadInput when the folder holds something that is not shopfloor's.
    """
    if shop is not None:
        stop_background(shop)
        stop_services(shop_dir)
    if not shop_dir.exists():
        return []
    known = {entry.name for entry in shop_dir.iterdir()} & OURS
    strange = sorted({entry.name for entry in shop_dir.iterdir()} - OURS)
    for name in sorted(known):
        path = shop_dir / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if strange:
        raise BadInput(f"{shop_dir} also holds {', '.join(strange[:5])}, which is not shopfloor's and was left alone")
    shop_dir.rmdir()
    return sorted(known)


OURS = frozenset(
    {"shopfloor.json", "shopfloor.lock", "secrets", "etc", "run", "log", "postgres", "valkey", "bin", "making", "blobs", "tracker"}
)
"""Everything that shopfloor makes in a data folder."""


def as_document(done: Demonstration) -> dict[str, Any]:
    """Return the run as the fields of the demo's JSON document."""
    report = done.report
    return {
        "rows": report.rows,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "duplicate": report.duplicate,
        "context": report.context,
        "ends": done.ends,
        "proposals": done.proposals,
        "findings": done.findings,
        "seconds": round(done.seconds, 3),
        "batch": str(report.batch_id),
        "unsupported_findings": [{"finding": finding, "missing": missing} for finding, missing in done.unsupported],
        "export_command": done.export_command,
        "refused": done.refused,
    }
