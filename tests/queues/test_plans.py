"""The cost of a batch is that of its items, whatever the statistics say: see docs/decisions/0011-plans-that-cannot-flip.md."""

from collections import Counter
from pathlib import Path
from uuid import UUID

from console.benchmarks.reference import write_file
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road
from tests.intake_processes import reference_floor
from tests.waiting import wait_until

BATCH = 50
BACKLOG = 4_000
ENTRIES_PER_ITEM = 40
"""Index entries that all stages together may read of one index for one item; reading it whole once takes 80."""


INTAKES = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'shopfloor_intake'"


def read_entries(admin: Connection, road: Road) -> Counter[str]:
    """Return how many entries of each index of the road have been read so far."""
    # What an intake has read is told when its session ends, which the server does after the client has gone.
    wait_until(lambda: admin.execute(INTAKES).fetchone() == (0,), seconds=10, what=lambda: "the session of an intake is still there")
    for role in (Role.PROPOSE, Role.APPLY):
        road.worker(role).context.conn.execute("SELECT pg_stat_force_next_flush()")
    admin.execute("SELECT pg_stat_clear_snapshot()")
    rows = admin.execute("SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = 'shopfloor'")
    return Counter(dict(rows.fetchall()))


def take_through(road: Road) -> None:
    """Take one batch as far as it goes."""
    for role in (Role.PROPOSE, Role.APPLY):
        worker = road.worker(role)
        worker.batch = BATCH
        for lane in worker.lanes:
            worker.step(lane)


def assert_that_a_batch_reads_no_backlog(road: Road, admin: Connection, folder: Path) -> None:
    road.take_file(write_file(folder / "backlog.jsonl", 100_000, BACKLOG), flow="reference")
    before, archived = read_entries(admin, road), admin.execute("SELECT count(*) FROM archived_items").fetchall()[0][0]
    take_through(road)
    read = read_entries(admin, road) - before
    assert admin.execute("SELECT count(*) FROM archived_items").fetchone() == (archived + BATCH,)
    assert {index: entries for index, entries in read.items() if entries > BATCH * ENTRIES_PER_ITEM} == {}


def test_plans_of_the_first_items_of_a_new_line_are_still_good_for_a_backlog(
    shop: Shop, strict_road: Road, admin: Connection, tmp_path: Path
) -> None:
    reference_floor(shop, tmp_path)
    for number in range(3):
        strict_road.take_file(write_file(tmp_path / "first.jsonl", number, 1), flow="reference")
        strict_road.run()
    assert_that_a_batch_reads_no_backlog(strict_road, admin, tmp_path)


def test_plans_made_on_a_queue_that_is_all_but_empty_are_still_good_for_a_backlog(
    shop: Shop, strict_road: Road, admin: Connection, workspace: UUID, tmp_path: Path
) -> None:
    reference_floor(shop, tmp_path)
    strict_road.take_file(write_file(tmp_path / "many.jsonl", 1, 1_000), flow="reference")
    # One item stays, on the last page: the table keeps its pages, and is believed to hold next to nothing on each.
    admin.execute(
        "INSERT INTO pauses (id, workspace_id, kind, scope, why, actor) "
        "SELECT gen_random_uuid(), %s, 'item', item_id::text, 'kept', 'test' FROM queue ORDER BY ctid DESC LIMIT 1",
        [workspace],
    )
    strict_road.run()
    admin.execute("VACUUM ANALYZE")
    assert admin.execute("SELECT reltuples FROM pg_class WHERE relname = 'queue'").fetchone() == (1,)
    admin.execute("UPDATE pauses SET lifted_at = clock(), lifted_by = 'test'")
    strict_road.run()
    assert_that_a_batch_reads_no_backlog(strict_road, admin, tmp_path)
