"""`shopfloor benchmark scale`: what a claim, the board and the road cost with many items in the archive."""

import contextlib
import statistics as st
import tempfile
import time
from pathlib import Path
from typing import Any

from console.benchmarks.bench import Bench, bench
from console.benchmarks.reference import write_file
from contracts.lifecycle import Role, Stage
from pipeline.floors.publish import floor_in_force
from pipeline.startup.setup import load_registry
from pipeline.worker.fair_share import FairShare, take
from pipeline.worker.inline import InlineWorker, lanes_of
from queues.board.lanes import read_board
from queues.claims import give_back
from queues.database import transaction

_READY = 2000
_WARM = 50
"""Claims that are not measured: the first ones of a session prepare its statements."""
_CLAIMS = 1000
_BOARDS = 20
_RATES = 3
_STEP = 200_000

# History as the line itself would have left it, written in bulk: orders, items, archive rows and their first and last move.
_FILL = (
    """
    INSERT INTO orders (id, workspace_id, batch_id, pod_id, flow, subject_key, revision, payload_sha256, submitter,
                        state, closed_at)
    SELECT (substr(id_floor(clock())::text, 1, 19) || substr(md5('o' || g), 1, 4) || '-'
            || substr(md5('p' || g), 1, 12))::uuid, %(workspace)s, %(batch)s, %(pod)s,
           'reference', 'past-' || g, '1', sha256(int8send(g)), 'intake', 'done', clock()
             FROM generate_series(%(low)s::bigint, %(high)s::bigint) g
    """,
    """
    INSERT INTO items (id, workspace_id, order_id, batch_id, row_no, flow, payload_sha256)
    SELECT o.id, o.workspace_id, o.id, o.batch_id, -substr(o.subject_key, 6)::bigint, o.flow, o.payload_sha256
      FROM orders o
     WHERE o.subject_key = ANY (SELECT 'past-' || g FROM generate_series(%(low)s::bigint, %(high)s::bigint) g)
       AND o.workspace_id = %(workspace)s
       AND o.flow = 'reference'
       AND o.revision = '1'
    """,
    """
    INSERT INTO archived_items (item_id, workspace_id, order_id, pod_id, fence, move_no, stage, state, lane, flow,
                                archived_at)
    SELECT i.id, i.workspace_id, i.order_id, %(pod)s, 6, 9, 'archive', 'done', 'archive', i.flow, clock()
      FROM items i
     WHERE i.workspace_id = %(workspace)s AND i.batch_id = %(batch)s AND -i.row_no BETWEEN %(low)s AND %(high)s
    """,
    """
    INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
    SELECT i.id, i.workspace_id, clock(), k, k, 12, 'scale'
      FROM items i, generate_series(1, 9) k
     WHERE i.workspace_id = %(workspace)s AND i.batch_id = %(batch)s AND -i.row_no BETWEEN %(low)s AND %(high)s
    """,
)


def scale(*, sizes: list[int], items: int) -> list[dict[str, Any]]:
    """Return one line of figures per archive size, smallest first; the archive grows between them."""
    figures = []
    with bench(workers=1, mode="strict", batch=200, crew=False) as found, tempfile.TemporaryDirectory() as folder:
        archived = 0
        for number, size in enumerate(sorted(sizes)):
            _fill(found, archived + 1, size)
            archived = size
            rate = st.median(_rate(found, Path(folder), _RATES * number + n, items) for n in range(_RATES))
            found.take_file(write_file(Path(folder) / "ready.jsonl", 50_000_000 + number * _READY, _READY), found.workspaces[0])
            claims = _claims(found)
            figures.append(
                {
                    "archived": size,
                    "strict_items_per_s": rate,
                    "claim_p50_ms": round(st.median(claims), 2),
                    "claim_p99_ms": round(sorted(claims)[int(0.99 * len(claims))], 2),
                    "board_p50_ms": _board(found),
                }
            )
    return figures


def _fill(found: Bench, low: int, high: int) -> None:
    """Write history in bulk, past the guards: this is a measure of size, not of the line."""
    conn, workspace = found.conn, found.workspaces[0]
    if high < low:
        return
    conn.execute("SET search_path = shopfloor")
    values: dict[str, object] = {"workspace": workspace}
    found_batch = conn.execute(
        "SELECT b.id, p.id FROM batches b, pods p WHERE b.workspace_id = %s AND p.workspace_id = b.workspace_id LIMIT 1", [workspace]
    ).fetchone()
    if found_batch is None:
        with tempfile.TemporaryDirectory() as folder:
            found.take_file(write_file(Path(folder) / "seed.jsonl", 40_000_000, 1), workspace)
        found_batch = conn.execute("SELECT b.id, p.id FROM batches b, pods p WHERE b.workspace_id = %s LIMIT 1", [workspace]).fetchone()
    assert found_batch is not None
    values |= {"batch": found_batch[0], "pod": found_batch[1]}
    conn.execute("SET session_replication_role = replica")
    for start in range(low, high + 1, _STEP):
        for statement in _FILL:
            conn.execute(statement, values | {"low": start, "high": min(high, start + _STEP - 1)})
    conn.execute("SET session_replication_role = origin")
    conn.execute("VACUUM ANALYZE")


@contextlib.contextmanager
def _worker(found: Bench, role: Role) -> Any:
    from pipeline.startup.appliers import opened

    registry = load_registry()
    with found.shop.connect(Role.OPERATE, name="bench") as conn:
        floor = floor_in_force(conn, found.workspaces[0]).floor
    worker = InlineWorker(found.shop, role, lanes_of(floor, role), registry, opened(found.shop, ["sink"]) if role is Role.APPLY else {})
    try:
        yield worker
    finally:
        worker.close()


def _rate(found: Bench, folder: Path, number: int, items: int) -> float:
    """Return items a second, intake to archive, by one process in mode strict."""
    path = write_file(folder / "rate.jsonl", 30_000_000 + number * items, items)
    with _worker(found, Role.PROPOSE) as propose, _worker(found, Role.APPLY) as apply:
        started = time.monotonic()
        found.take_file(path, found.workspaces[0])
        while propose.run() + apply.run():
            pass
    return round(items / (time.monotonic() - started), 1)


def _claims(found: Bench) -> list[float]:
    """Return the milliseconds of single-item claims, each given back at once."""
    taken = []
    with _worker(found, Role.PROPOSE) as worker:
        turns = FairShare()
        for nth in range(_WARM + _CLAIMS):
            started = time.perf_counter()
            claim = take(worker.context, turns, worker.id, worker.name, Stage.ROUTE.value, batch=1, seconds=30).claim
            if nth >= _WARM:
                taken.append(1000 * (time.perf_counter() - started))
            with transaction(worker.context.conn, found.workspaces[0]) as conn:
                give_back(conn, claim.id, by=worker.name, note="measured")
    return taken


def _board(found: Bench) -> float:
    """Return the milliseconds of one reading of the board."""
    taken = []
    with found.shop.connect(Role.READ, name="bench") as conn:
        for _ in range(_BOARDS):
            started = time.perf_counter()
            read_board(conn, found.workspaces[0])
            taken.append(1000 * (time.perf_counter() - started))
    return round(st.median(taken), 2)
