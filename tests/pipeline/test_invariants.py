"""The checker is itself checked: a healthy factory is silent, and each way of breaking it is told once, as itself."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.advance import Mode, Turns, take
from pipeline.compose import Shop
from pipeline.invariants import TITLES, VACUOUS, Checked, check_all
from pipeline.people import token_sha256
from pipeline.settings import Settings
from pipeline.setup import own_token
from queues.database import Connection, transaction
from queues.database import connect as open_connection
from queues.embedded import Services
from tests.line import Road, issue, merged
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
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template_shop OWNER shopfloor_owner").format(sql.Identifier(name)))
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
    with open_connection(services.superuser_url("postgres")) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER shopfloor_owner").format(sql.Identifier(name), sql.Identifier(worked)))
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


def test_a_healthy_factory_is_silent_and_what_is_not_built_is_vacuous(shop: Shop, admin: Connection) -> None:
    seen = admin.execute("SELECT state, count(*) FROM shopfloor.proposals GROUP BY 1 ORDER BY 1").fetchall()
    assert dict(seen) == {"applied": 1, "open": 1}, "the healthy factory has less in it than the breaks need"
    assert admin.execute("SELECT max(rounds) FROM shopfloor.archived_items").fetchone() == (1,)
    assert violated(shop) == {}
    assert {one.number for one in check(shop) if one.status == "vacuous"} == VACUOUS.keys()
    assert [one.number for one in check(shop)] == list(TITLES)


_APPLIED = "(SELECT item_id FROM proposals WHERE state = 'applied')"
_OPEN = "(SELECT item_id FROM proposals WHERE state = 'open')"
_DRAFT = "(SELECT item_id FROM archived_items WHERE finding NOT IN ('context', '') AND rounds = 0 AND item_id NOT IN (SELECT item_id FROM proposals) LIMIT 1)"
_READY = "(SELECT item_id FROM queue WHERE state = 'ready' ORDER BY item_id LIMIT 1)"
_RETRIES = f"""
INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor, reason)
SELECT q.item_id, q.workspace_id, q.moved_at, q.move_no + 2 * k - m.back, k, l.number, 'worker', CASE m.move WHEN 'retry' THEN 'transient: no answer' ELSE '' END
  FROM queue q, generate_series(1, 9) k, (VALUES ('claim', 1), ('retry', 0)) m (move, back), legal_moves l
 WHERE q.item_id = {_READY} AND l.move = m.move AND l.from_stage = 'route';
UPDATE queue SET fence = 9, move_no = move_no + 18, transients = 9 WHERE item_id = {_READY}
"""
_LAST_LEASE = f"""
UPDATE moves SET fence = fence + %s WHERE item_id = {_DRAFT} AND no >= (SELECT max(no) - 1 FROM moves m WHERE m.item_id = moves.item_id)
"""

BREAKS: list[tuple[int, str, str]] = [
    (1, "a batch counts a row that is not there", "UPDATE batches SET rows_read = rows_read + 1, accepted = accepted + 1"),
    (1, "a batch counts a context row too many", "UPDATE batches SET context = context + 1"),
    (1, "the last row is gone", "DELETE FROM batch_rows WHERE row_no = 9"),
    (1, "two accepted rows share an order",
     "UPDATE batch_rows SET order_id = (SELECT order_id FROM batch_rows WHERE row_no = 3) WHERE row_no = 5"),
    (2, "a move starts elsewhere",
     "UPDATE moves SET legal = (SELECT number FROM legal_moves WHERE move = 'carry' AND from_stage = 'artifact' "
     f"AND to_stage = 'qa') WHERE item_id = {_DRAFT} AND fence = 2"),
    (2, "a move is missing", f"DELETE FROM moves WHERE item_id = {_DRAFT} AND no = 2"),
    (2, "an item stands where no move left it", f"UPDATE archived_items SET state = 'refused' WHERE item_id = {_DRAFT}"),
    (2, "an item has no history", f"DELETE FROM moves WHERE item_id = {_READY}"),
    (3, "an item carries a fence that no move gave it", f"UPDATE archived_items SET fence = fence + 1 WHERE item_id = {_DRAFT}"),
    (3, "a fence is given twice", _LAST_LEASE % -1),
    (3, "a result is later than its lease", f"UPDATE artifacts SET created_at = created_at + interval '1 s' WHERE item_id = {_DRAFT}"),
    (3, "a verdict comes from no lease", f"UPDATE verdicts SET fence = 99 WHERE item_id = {_DRAFT}"),
    (4, "an attempt is missing", _LAST_LEASE % 1 + f"; UPDATE archived_items SET fence = fence + 1 WHERE item_id = {_DRAFT}"),
    (4, "an execution belongs to no lease", f"UPDATE attempts SET fence = 99 WHERE item_id = {_DRAFT}"),
    (4, "a ceiling is passed", _RETRIES),
    (5, "an action is applied twice",
     f"DROP INDEX applies_once; INSERT INTO applies SELECT '{new_id()}', workspace_id, proposal_id, item_id, "
     "action_id, proposal_sha256, adapter, idempotency_class, fence, state, intent_at, finished_at, receipt "
     "FROM applies"),
    (5, "an approval has no end", "UPDATE proposals SET state = 'approved' WHERE state = 'applied'; DELETE FROM applies"),
    (5, "an effect is unknown and nobody is asked",
     "UPDATE proposals SET state = 'unknown' WHERE state = 'applied'; UPDATE applies SET state = 'unknown'"),
    (5, "a proposal is applied and no apply is", "UPDATE applies SET state = 'failed'"),
    (5, "an open proposal outlives its item", "UPDATE proposals SET state = 'open' WHERE state = 'applied'; DELETE FROM applies"),
    (6, "nobody decided", "DELETE FROM decisions"),
    (6, "the decision came later", "UPDATE decisions SET decided_at = decided_at + interval '1 h'"),
    (6, "the decision had run out", "UPDATE decisions SET expires_at = decided_at"),
    (6, "the reviewer had edited it", "UPDATE proposals SET editors = ARRAY(SELECT name FROM actors) WHERE state = 'applied'"),
    (6, "the reviewer submitted it", "UPDATE proposals SET submitter = (SELECT actor FROM inspect.decisions) WHERE state = 'applied'"),
    (6, "two decisions were asked for", "UPDATE clearances SET tier = 'dual', needed = 2 WHERE state = 'cleared'"),
    (6, "the contract asks for more", "UPDATE clearances SET tier = 'none', needed = 0 WHERE state = 'cleared'"),
    (7, "the action id names something else", "UPDATE applies SET action_id = sha256('other')"),
    (7, "something else was sent", "UPDATE applies SET proposal_sha256 = sha256('other')"),
    (7, "something else was decided on", "UPDATE decisions SET proposal_sha256 = sha256('other')"),
    (7, "the target is not the one in the bytes", "UPDATE proposals SET target = 'acme/widgets#99' WHERE state = 'open'"),
    (7, "the precondition is not the one in the bytes",
     "UPDATE proposals SET precondition_sha256 = sha256('other') WHERE state = 'open'"),
    (7, "no artifact bears the name", "UPDATE proposals SET sha256 = sha256('other') WHERE state = 'open'"),
    (9, "a bit flipped",
     "UPDATE bodies SET bytes = set_bit(bytes, 5, 1 - get_bit(bytes, 5)) FROM artifacts a "
     f"WHERE a.item_id = {_DRAFT} AND (bodies.item_id, bodies.sha256) = (a.item_id, a.sha256)"),
    (9, "an envelope was torn",
     f"UPDATE bodies SET bytes = substr(bytes, 1, 9) FROM proposals p WHERE p.item_id = {_OPEN} AND (bodies.item_id, "
     "bodies.sha256) = (p.item_id, p.sha256)"),
    (9, "an artifact's bytes are gone",
     f"DELETE FROM bodies USING artifacts a WHERE a.item_id = {_DRAFT} AND (bodies.item_id, "
     "bodies.sha256) = (a.item_id, a.sha256)"),
    (9, "an artifact states another size", f"UPDATE artifacts SET size_bytes = size_bytes + 1 WHERE item_id = {_DRAFT}"),
    (9, "a queued item has no payload", f"DELETE FROM bodies WHERE item_id = {_READY}"),
    (10, "a published contract was edited",
     "UPDATE contracts SET body = convert_to(replace(convert_from(body, 'UTF8'), '14', '15'), 'UTF8') "
     "WHERE name = 'issue_review'"),
    (10, "a published contract is no JSON", "UPDATE contracts SET body = 'x' WHERE name = 'issue_review'"),
    (10, "a published contract is not text", "UPDATE contracts SET body = '\\xff' WHERE name = 'issue_review'"),
    (10, "an artifact is not what the contract gives",
     f"UPDATE bodies SET sha256 = sha256('{{}}'), bytes = '{{}}' FROM artifacts a WHERE a.item_id = {_DRAFT} "
     f"AND (bodies.item_id, bodies.sha256) = (a.item_id, a.sha256); UPDATE artifacts SET sha256 = sha256('{{}}'), "
     f"size_bytes = 2 WHERE item_id = {_DRAFT}"),
    (10, "an artifact is of another contract than its item",
     "UPDATE archived_items SET contract_id = (SELECT id FROM contracts WHERE name = 'reference') "
     f"WHERE item_id = {_DRAFT}"),
    (10, "an attempt is filed as something else", f"UPDATE attempts SET outcome = 'refusal' WHERE item_id = {_DRAFT}"),
    (12, "an item waits for nobody", "UPDATE queue SET waiting_on = '' WHERE state = 'waiting'"),
    (12, "an item waits for a clearance that is void", "UPDATE clearances SET state = 'void', closed_at = clock() WHERE state = 'open'"),
    (12, "an item is due in a year", f"UPDATE queue SET due_at = clock() + interval '1 year' WHERE item_id = {_READY}"),
    (12, "a served lane stands still",
     "UPDATE queue SET due_at = clock() - interval '5 min', moved_at = clock() - interval '5 min' "
     f"WHERE item_id = {_READY}; DELETE FROM lane_minutes; INSERT INTO workers (id, name, host, pid, "
     f"lanes) VALUES (gen_random_uuid(), 'w', 'h', 1, '{{route}}')"),
    (13, "a move belongs to another workspace",
     f"INSERT INTO workspaces (id, name) VALUES ('{new_id()}', 'other'); UPDATE moves "
     f"SET workspace_id = (SELECT id FROM workspaces WHERE name = 'other') WHERE item_id = {_DRAFT} AND no = 1"),
    (13, "an artifact belongs to no workspace", f"UPDATE artifacts SET workspace_id = gen_random_uuid() WHERE item_id = {_OPEN}"),
    (13, "row security is off", "SELECT 1; ALTER TABLE findings DISABLE ROW LEVEL SECURITY"),
    (13, "a partition does not force row security", "SELECT 1; ALTER TABLE moves_other NO FORCE ROW LEVEL SECURITY"),
    (13, "a login owns a table", "SELECT 1; ALTER TABLE lanes OWNER TO shopfloor_apply"),
    (14, "rounds were counted that nobody went", f"UPDATE archived_items SET rounds = 9 WHERE item_id = {_DRAFT}"),
    (14, "a round was not counted", "UPDATE archived_items SET rounds = 0 WHERE rounds > 0"),
    (14, "an item is too many hops away",
     f"ALTER TABLE items DROP CONSTRAINT items_depth_check; UPDATE items SET depth = 9 WHERE id = {_DRAFT}"),
    (16, "an item waits for a batch that is complete",
     "UPDATE batches SET finished_at = clock() - interval '1 min'; UPDATE moves SET legal = (SELECT number "
     f"FROM legal_moves WHERE move = 'hold') WHERE item_id = {_READY} AND no = 1; DELETE FROM moves "
     f"WHERE item_id = {_READY} AND no > 1; UPDATE queue q SET stage = 'intake', state = 'waiting', lane = 'intake', "
     "ready_lane = NULL, wait = 'dependency', move_no = 1, waiting_on = 'batch ' || i.batch_id FROM items i "
     f"WHERE i.id = q.item_id AND i.id = {_READY}"),
    (17, "an item is nowhere", f"DELETE FROM queue WHERE item_id = {_OPEN}"),
    (17, "an item is in two places",
     "INSERT INTO archived_items SELECT item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, "
     f"rounds, stage, 'done', lane, flow, '', clock() FROM queue WHERE item_id = {_READY}"),
    (17, "a place holds an item that was never created", f"DELETE FROM items WHERE id = {_READY}"),
    (17, "an item changed its flow", f"UPDATE queue SET flow = 'other' WHERE item_id = {_READY}"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "statements"), [pytest.param(n, text, id=f"{n}: {what}") for n, what, text in BREAKS])
def test_each_break_is_told_as_its_own_invariant_and_nothing_else(shop: Shop, admin: Connection, number: int, statements: str) -> None:
    broken(admin, statements)
    found = violated(shop)
    assert list(found) == [number], found
    assert all(found[number])


def test_every_invariant_that_is_built_has_a_break() -> None:
    tried_elsewhere = {15}
    assert {number for number, _, _ in BREAKS} | tried_elsewhere == TITLES.keys() - VACUOUS.keys()


@pytest.fixture
def leased(shop: Shop, tmp_path: Path) -> Iterator[str]:
    """The claim of a worker that took the two ready items and was never heard of again."""
    road = Road(shop, tmp_path, Mode.FUSED)
    worker = road.worker()
    claim, _ = take(worker.line, Turns(), worker.id, worker.name, "route", batch=10, seconds=30)
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


def test_a_move_out_of_a_terminal_state_needs_a_name(shop: Shop, admin: Connection) -> None:
    broken(
        admin,
        f"""
        INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
        SELECT q.item_id, q.workspace_id, clock(), q.move_no + step, 1, l.number, CASE move WHEN 'requeue' THEN '' ELSE 'worker' END
          FROM queue q, (VALUES (1, 'claim', 'ready'), (2, 'bury', 'leased'), (3, 'requeue', 'dead')) s (step, move_name, from_state), legal_moves l
         WHERE q.item_id = {_READY} AND (l.move, l.from_stage, l.from_state) = (s.move_name, 'route', s.from_state);
        UPDATE queue SET move_no = move_no + 3, fence = 1 WHERE item_id = {_READY}
        """,
    )
    found = violated(shop)
    assert list(found) == [2]
    assert "no revival by a named actor" in found[2][0]
    broken(admin, "UPDATE moves SET actor = 'ada' WHERE actor = ''")
    assert violated(shop) == {}


def test_an_idle_transaction_is_told_with_its_session(shop: Shop) -> None:
    with open_connection(shop.migration_url(), name="forgetful") as idle, idle.transaction():
        idle.execute("SELECT 1")
        assert violated(shop) == {}, "ten seconds are allowed"
        found = violated(shop, idle_seconds=0.0)
    assert list(found) == [15]
    assert found[15][0].startswith("forgetful (")


def test_sessions_out_of_sight_are_vacuous_and_not_well(shop: Shop) -> None:
    with closing(shop.connect(Role.AUDIT)) as conn:
        [sessions] = [one for one in check_all(conn, shop.store) if one.number == 15]
    assert sessions.status == "vacuous"


def test_a_login_with_more_rights_than_its_role_is_told(shop: Shop, admin: Connection) -> None:
    admin.execute("ALTER ROLE shopfloor_read BYPASSRLS")
    try:
        found = violated(shop)
    finally:
        admin.execute("ALTER ROLE shopfloor_read NOBYPASSRLS")
    assert found == {13: ("role shopfloor_read can bypass row security",)}


class Store:
    """A store of the test's own on which time can pass."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        from artifacts.blobs import BlobStore

        self.shop, self.blobs = shop, BlobStore(folder)

    def violated(self) -> dict[int, tuple[str, ...]]:
        """Return what is violated with this store."""
        with closing(self.shop.connect(Role.AUDIT)) as conn, closing(open_connection(self.shop.migration_url())) as monitor:
            found = check_all(conn, self.blobs, monitor=monitor)
        return {one.number: one.violations for one in found if one.status == "violated"}


def _aged(path: Path) -> Path:
    os.utime(path, (time.time() - 7200,) * 2)
    return path


@pytest.fixture
def store(shop: Shop, admin: Connection, tmp_path: Path) -> Store:
    """A store to which the bytes of one artifact were moved out of their row."""
    found = Store(shop, tmp_path / "blobs")
    admin.execute("SET search_path = shopfloor")
    row = admin.execute(f"SELECT b.bytes FROM artifacts a JOIN bodies b USING (item_id, sha256) WHERE a.item_id = {_DRAFT}").fetchone()
    assert row is not None
    name = found.blobs.put(row[0])
    _aged(found.blobs.path(name))
    broken(admin, f"DELETE FROM bodies USING artifacts a WHERE a.item_id = {_DRAFT} AND (bodies.item_id, bodies.sha256) = (a.item_id, a.sha256)")
    return found


def test_bytes_on_disk_are_as_good_as_in_a_row(store: Store) -> None:
    assert store.violated() == {}


def test_a_torn_file_is_told(store: Store) -> None:
    [path] = store.blobs.folder.glob("*/*")
    path.write_bytes(path.read_bytes()[:-1])
    found = store.violated()
    assert list(found) == [9]
    assert f"the bytes of {path} do not match its name" in found[9]


def test_a_blob_that_nothing_names_is_told_when_it_is_old(store: Store) -> None:
    path = store.blobs.path(store.blobs.put(b"nobody's"))
    assert store.violated() == {}
    _aged(path)
    assert list(store.violated()) == [9]


def test_a_temporary_file_is_told_when_it_is_old(store: Store) -> None:
    folder = next(iter(store.blobs.folder.iterdir()))
    path = folder / ".half-written.123"
    path.write_bytes(b"ha")
    assert store.violated() == {}
    _aged(path)
    assert list(store.violated()) == [9]


def test_the_value_of_a_turned_away_attempt_is_named_by_its_wrapper(store: Store, admin: Connection) -> None:
    broken(admin, f"DELETE FROM artifacts WHERE item_id = {_DRAFT}")
    assert store.violated() == {}
    broken(admin, f"DELETE FROM attempts WHERE item_id = {_DRAFT}")
    assert list(store.violated()) == [9]


def test_many_violations_are_counted_and_a_few_told(shop: Shop, admin: Connection) -> None:
    broken(admin, "DELETE FROM moves")
    [history] = [one for one in check(shop, most=3) if one.number == 2]
    assert len(history.violations) == 3
    assert history.total == admin.execute("SELECT count(*) FROM items").fetchone()[0]  # type: ignore[index]
