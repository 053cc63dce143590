"""The checker is itself checked: a healthy factory is silent, and each way of breaking it is told once, as itself."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from artifacts.blobs import BlobStore
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.access.tokens import token_sha256
from pipeline.doctor.invariants import NOT_BUILT, TITLES, Checked, check_all, check_here
from pipeline.startup.compose import Shop
from pipeline.startup.settings import Settings
from pipeline.startup.setup import own_token
from pipeline.worker.advance import Mode
from pipeline.worker.fair_share import FairShare, take
from queues.database import Connection, transaction
from queues.database import connect as open_connection
from queues.embedded import Services
from tests.in_process import Road, clone_database, issue, merged
from tests.pipeline.doctor.breaks import BREAKS, DRAFT, ITS_BODY, READY
from workcells.appliers.tracker_seed import seed
from workcells.shapes.catalogue import SHAPES

AS_OF = datetime(2025, 6, 1, tzinfo=UTC)
ROWS = [
    issue(1), merged(2, fixes=1), issue(3, title="Gear 3 is loose"), merged(4, fixes=3),
    issue(5, title="Cannot find the manual", body="Where is it?"),
    issue(6, title="The crank squeaks", labels=[{"name": "security"}]), merged(7, fixes=6),
    issue(1), {"number": "eight"},
]  # fmt: skip


@pytest.fixture(scope="module")
def worked(services: Services, services_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database in which something of every kind has happened: rows of all outcomes, an apply, a waiting proposal."""
    name, folder = f"worked_{uuid4().hex[:12]}", tmp_path_factory.mktemp("worked")
    clone_database(services, name, "template_shop")
    shop = Shop(Settings(data_dir=services_dir, database=name, tracker_dir=folder / "tracker"), services)
    seed(shop.tracker_dir, [SHAPES["github_issue"].normalise(row) for row in ROWS if "title" in row])
    with closing(Road(shop, folder, Mode.FUSED)) as road:
        road.take_in(ROWS, as_of=AS_OF)
        road.run()
        _approve(shop, "acme/widgets#1")
        road.sweep()
        road.run()
        road.take_in([issue(20, title="Too new to be looked at"), issue(21, title="Another one")], as_of=AS_OF)
    yield name
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _approve(shop: Shop, target: str) -> None:
    with closing(shop.connect(Role.OPERATE)) as conn:
        token = own_token(shop, conn, shop.workspace_id(conn))
    with closing(shop.connect(Role.REVIEW)) as conn, transaction(conn, shop.workspace_id(conn)):
        row = conn.execute("SELECT c.id, p.sha256 FROM clearances c JOIN proposals p ON p.id = c.proposal_id WHERE p.target = %s", [target])
        clearance, sha256 = row.fetchone()  # type: ignore[misc]
        conn.execute("SELECT decide(%s, %s, %s, %s, 'approve', '')", [new_id(), token_sha256(token), clearance, sha256])


@pytest.fixture
def shop(services: Services, services_dir: Path, worked: str, tmp_path: Path) -> Iterator[Shop]:
    """A factory on a copy of the worked database, with a store of its own."""
    name = f"broken_{uuid4().hex[:12]}"
    clone_database(services, name, worked)
    yield Shop(Settings(data_dir=services_dir, database=name, tracker_dir=tmp_path / "tracker"), services)
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def check(shop: Shop, **more: Any) -> tuple[Checked, ...]:
    """Check as `doctor --strict` does."""
    with closing(shop.connect(Role.AUDIT)) as conn, closing(open_connection(shop.migration_url())) as monitor:
        return check_all(conn, shop.store, monitor=monitor, **more)


def violated(shop: Shop, **more: Any) -> dict[int, tuple[str, ...]]:
    """Return what is violated, with what is said of it."""
    return {one.number: one.violations for one in check(shop, **more) if one.status == "violated"}


def broken(admin: Connection, statements: str) -> None:
    """Break the database behind the back of every guard."""
    admin.execute("SET search_path = shopfloor; SET session_replication_role = replica")
    done = admin.execute(statements)
    assert done.rowcount != 0, "the statement broke nothing: the test would prove nothing"
    admin.execute("SET session_replication_role = origin")


def test_a_healthy_factory_is_silent_and_what_is_not_built_is_vacuous(shop: Shop, admin: Connection) -> None:
    seen = admin.execute("SELECT state, count(*) FROM shopfloor.proposals GROUP BY 1 ORDER BY 1").fetchall()
    assert dict(seen) == {"applied": 1, "open": 1}, "the healthy factory has less in it than the breaks need"
    assert admin.execute("SELECT max(rounds) FROM shopfloor.archived_items").fetchone() == (1,)
    assert violated(shop) == {}
    assert {one.number for one in check(shop) if one.status == "vacuous"} == NOT_BUILT.keys()
    assert [one.number for one in check(shop)] == list(TITLES)


@pytest.fixture
def ground(services: Services, worked: str) -> Iterator[Connection]:
    """The superuser in a transaction on the worked database itself: what is broken there is rolled back."""
    with closing(open_connection(services.superuser_url(worked))) as conn, conn.transaction(force_rollback=True):
        conn.execute("SET search_path = shopfloor")
        yield conn


def violated_here(ground: Connection, folder: Path, **more: Any) -> dict[int, tuple[str, ...]]:
    """Return what the role audit would find violated inside the open transaction, and go on as the superuser."""
    ground.execute("SET LOCAL ROLE shopfloor_audit")
    result = check_here(ground, BlobStore(folder), **more)
    ground.execute("RESET ROLE")
    return {one.number: one.violations for one in result if one.status == "violated"}


@pytest.mark.parametrize(("number", "statements"), [pytest.param(n, text, id=f"{n}: {what}") for n, what, text in BREAKS])
def test_each_break_is_told_as_its_own_invariant_and_nothing_else(ground: Connection, tmp_path: Path, number: int, statements: str) -> None:
    broken(ground, statements)
    found = violated_here(ground, tmp_path)
    assert list(found) == [number], found
    assert all(found[number])


def test_every_invariant_that_is_built_has_a_break() -> None:
    tried_elsewhere = {15}
    assert {number for number, _, _ in BREAKS} | tried_elsewhere == TITLES.keys() - NOT_BUILT.keys()


@pytest.fixture
def leased(shop: Shop, tmp_path: Path) -> Iterator[str]:
    """The claim of a worker that took the two ready items and was never heard of again."""
    road = Road(shop, tmp_path, Mode.FUSED)
    worker = road.worker()
    claim = take(worker.context, FairShare(), worker.id, worker.name, "route", batch=10, seconds=30).claim
    assert len(claim.items) == 2
    yield str(claim.id)
    road.close()


def test_a_live_lease_is_no_violation(shop: Shop, leased: str) -> None:
    assert violated(shop) == {}


def test_items_under_a_closed_claim_are_stranded(shop: Shop, admin: Connection, leased: str) -> None:
    broken(admin, f"UPDATE claims SET closed_at = clock() WHERE id = '{leased}'")
    found = violated(shop)
    assert list(found) == [12]
    assert len(found[12]) == 2
    assert "is closed" in found[12][0]


def test_a_claim_that_ran_out_is_the_sweepers_for_a_minute_and_then_stranded(shop: Shop, admin: Connection, leased: str) -> None:
    broken(admin, f"UPDATE claims SET until = clock() - interval '20 s' WHERE id = '{leased}'")
    assert list(violated(shop)) == [16]
    broken(admin, f"UPDATE claims SET until = clock() - interval '2 min' WHERE id = '{leased}'")
    assert list(violated(shop)) == [12, 16]


def test_a_lane_may_stand_while_its_worker_is_busy_with_a_long_batch(shop: Shop, admin: Connection, tmp_path: Path) -> None:
    with closing(Road(shop, tmp_path, Mode.FUSED)) as road:
        worker = road.worker()
        claim = take(worker.context, FairShare(), worker.id, worker.name, "route", batch=1, seconds=30).claim
        assert len(claim.items) == 1
        broken(admin, "DELETE FROM lane_minutes")
        broken(admin, "UPDATE queue SET due_at = due_at - interval '5 min', moved_at = moved_at - interval '5 min' WHERE state = 'ready'")
        assert violated(shop) == {}
        broken(admin, "UPDATE claims SET until = clock() - interval '20 s' WHERE closed_at IS NULL")
        assert list(violated(shop)) == [12, 16]


def test_what_the_sweeper_mends_is_mended(shop: Shop, admin: Connection, leased: str, tmp_path: Path) -> None:
    broken(admin, f"UPDATE claims SET until = clock() - interval '2 min' WHERE id = '{leased}'")
    with closing(Road(shop, tmp_path, Mode.FUSED)) as road:
        assert road.sweep()["expired"] == 2
    assert violated(shop) == {}


def test_a_proposal_that_expired_and_still_waits_is_the_sweepers(shop: Shop, clock: Any) -> None:
    clock.advance(seconds=91 * 86_400)
    assert list(violated(shop)) == [16]


def test_a_decision_that_nobody_followed_is_the_sweepers(shop: Shop, clock: Any) -> None:
    _approve(shop, "acme/widgets#3")
    assert violated(shop) == {}
    clock.advance(seconds=20)
    assert list(violated(shop)) == [16]
    clock.advance(seconds=2 * 86_400)
    assert list(violated(shop)) == [12], "the sweeper follows decisions of one day"


def test_a_move_out_of_a_terminal_state_needs_a_name(ground: Connection, tmp_path: Path) -> None:
    broken(
        ground,
        f"""
        INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
        SELECT q.item_id, q.workspace_id, clock(), q.move_no + step, 1, l.number, CASE move WHEN 'requeue' THEN '' ELSE 'worker' END
          FROM queue q, legal_moves l,
               (VALUES (1, 'claim', 'ready'), (2, 'bury', 'leased'), (3, 'requeue', 'dead')) s (step, move_name, from_state)
         WHERE q.item_id = {READY} AND (l.move, l.from_stage, l.from_state) = (s.move_name, 'route', s.from_state);
        UPDATE queue SET move_no = move_no + 3, fence = 1 WHERE item_id = {READY}
        """,
    )
    found = violated_here(ground, tmp_path)
    assert list(found) == [2]
    assert "without being a revival by a named actor" in found[2][0]
    broken(ground, "UPDATE moves SET actor = 'ada' WHERE actor = ''")
    assert violated_here(ground, tmp_path) == {}


def test_an_idle_transaction_is_told_with_its_session(shop: Shop) -> None:
    with open_connection(shop.migration_url(), name="forgetful") as idle, idle.transaction():
        idle.execute("SELECT 1")
        assert violated(shop) == {}, "ten seconds are allowed"
        found = violated(shop, idle_seconds=0.0)
    assert list(found) == [15]
    assert found[15][0].startswith("forgetful (")


def test_sessions_out_of_sight_are_vacuous_and_not_well(ground: Connection, tmp_path: Path) -> None:
    ground.execute("SET LOCAL ROLE shopfloor_audit")
    [sessions] = [one for one in check_here(ground, BlobStore(tmp_path)) if one.number == 15]
    assert sessions.status == "vacuous"


def test_many_violations_are_counted_and_a_few_told(ground: Connection, tmp_path: Path) -> None:
    broken(ground, "DELETE FROM moves")
    [history] = [one for one in check_here(ground, BlobStore(tmp_path), most=3) if one.number == 2]
    assert len(history.violations) == 3
    assert (history.total,) == ground.execute("SELECT count(*) FROM items").fetchone()


@pytest.fixture
def blobs(ground: Connection, tmp_path: Path) -> BlobStore:
    """A store into which the bytes of one artifact were moved from their row, hours ago."""
    store = BlobStore(tmp_path / "blobs")
    row = ground.execute(f"SELECT b.bytes FROM artifacts a JOIN bodies b USING (item_id, sha256) WHERE a.item_id = {DRAFT}").fetchone()
    assert row is not None
    _aged(store.path(store.put(row[0])))
    broken(ground, f"DELETE FROM bodies USING artifacts a WHERE a.item_id = {DRAFT} AND {ITS_BODY}")
    return store


def _aged(path: Path) -> Path:
    os.utime(path, (time.time() - 7200,) * 2)
    return path


def test_bytes_on_disk_are_as_good_as_in_a_row(ground: Connection, blobs: BlobStore) -> None:
    assert violated_here(ground, blobs.folder) == {}


def test_a_torn_file_is_told(ground: Connection, blobs: BlobStore) -> None:
    [path] = blobs.folder.glob("*/*")
    path.write_bytes(path.read_bytes()[:-1])
    found = violated_here(ground, blobs.folder)
    assert list(found) == [9]
    assert f"the bytes of {path} do not match its name" in found[9]


def test_a_blob_that_nothing_names_is_told_when_it_is_old(ground: Connection, blobs: BlobStore) -> None:
    path = blobs.path(blobs.put(b"nobody's"))
    assert violated_here(ground, blobs.folder) == {}
    _aged(path)
    assert list(violated_here(ground, blobs.folder)) == [9]


def test_a_temporary_file_is_told_when_it_is_old(ground: Connection, blobs: BlobStore) -> None:
    path = next(iter(blobs.folder.iterdir())) / ".half-written.123"
    path.write_bytes(b"ha")
    assert violated_here(ground, blobs.folder) == {}
    _aged(path)
    assert list(violated_here(ground, blobs.folder)) == [9]


def test_the_value_of_a_turned_away_attempt_is_named_by_its_wrapper(ground: Connection, blobs: BlobStore) -> None:
    broken(ground, f"DELETE FROM artifacts WHERE item_id = {DRAFT}")
    assert violated_here(ground, blobs.folder) == {}
    broken(ground, f"DELETE FROM attempts WHERE item_id = {DRAFT}")
    assert list(violated_here(ground, blobs.folder)) == [9]


def test_the_document_names_every_invariant_and_every_column_of_the_views(ground: Connection) -> None:
    text = (Path(__file__).parents[3] / "docs" / "invariants.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert [number for number in TITLES if not any(line.startswith(f"| {number} |") for line in lines)] == []
    documented = {line.split("`")[1]: re.findall(r"`(\w+)`", line.split("|")[2]) for line in lines if line.startswith("| `inspect.")}
    columns = ground.execute(
        "SELECT 'inspect.' || table_name, array_agg(column_name::text ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'inspect' GROUP BY 1"
    ).fetchall()
    assert documented == dict(columns)
