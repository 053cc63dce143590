"""What each database login may do, table by table, and what none can do whatever it tries.

Tried over plain connections with the roles' own logins, as somebody with psql would.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Error, sql
from psycopg.errors import CheckViolation, InsufficientPrivilege
from contracts.lifecycle import Role
from contracts.lifecycle import move as legal_move
from pipeline.access.tokens import ensure_actor, token_sha256
from pipeline.review.inbox import OpenProposal
from pipeline.startup.compose import Shop
from pipeline.startup.setup import ensure_workspace
from pipeline.worker.fair_share import FairShare, take
from queues.database import Connection, transaction
from tests.in_process import Road, issue
from tests.reviews import look, person, propose

EVERYBODY = frozenset(role.value for role in Role)
WRITES: dict[str, dict[str, str]] = {
    "actors": {"INSERT": "operate", "UPDATE": "operate"},
    "applies": {"INSERT": "apply", "UPDATE": "apply"},
    "archived_items": {"INSERT": "intake propose review apply operate sweep"},
    "artifact_inputs": {"INSERT": "propose"},
    "artifacts": {"INSERT": "propose apply"},
    "attempts": {"INSERT": "propose apply"},
    "audit": {},
    "batch_rows": {"INSERT": "intake"},
    "batches": {"INSERT": "intake", "UPDATE": "intake sweep"},
    "bodies": {"INSERT": "intake propose apply"},
    "cells": {"INSERT": "operate"},
    "claims": {"INSERT": "propose apply", "UPDATE": "propose apply sweep"},
    "clearances": {},
    "contracts": {"INSERT": "operate"},
    "decisions": {},
    "evidence": {"INSERT": "propose"},
    "findings": {"INSERT": "propose review apply operate sweep"},
    "floors": {"INSERT": "operate"},
    "items": {"INSERT": "intake"},
    "lane_minutes": {"INSERT": "propose apply sweep", "UPDATE": "propose apply sweep", "DELETE": "sweep"},
    "lanes": {"INSERT": "operate", "UPDATE": "operate"},
    "legal_moves": {},
    "moves": {"INSERT": "intake propose review apply operate sweep"},
    "orders": {"INSERT": "intake", "UPDATE": "intake propose review apply operate sweep"},
    "pauses": {"INSERT": "operate", "UPDATE": "operate"},
    "pods": {"INSERT": "operate", "UPDATE": "operate"},
    "proposals": {"UPDATE": "apply"},
    "queue": {
        "INSERT": "intake",
        "UPDATE": "intake propose review apply operate sweep",
        "DELETE": "intake propose review apply operate sweep",
    },
    "roles": {"INSERT": "operate", "DELETE": "operate"},
    "schema_version": {},
    "tokens": {"INSERT": "operate", "UPDATE": "operate"},
    "triggers": {"INSERT": "intake"},
    "verdicts": {"INSERT": "propose"},
    "workers": {"INSERT": "propose apply", "UPDATE": "propose apply sweep"},
    "workspaces": {"INSERT": "operate"},
}
"""Table → verb → who may write. Whatever is not named here is granted to nobody."""
READS: dict[str, str] = {"audit": "operate audit", "tokens": "operate audit", "bodies": "intake propose review apply operate read audit"}
"""Who reads a table, where that is not everybody."""
HIDDEN = frozenset({"subjects", "mentions", "lexicon", "subject_words"})
"""Tables that are read through definer functions alone."""
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

_STATE_OF_AN_ORDER = dict.fromkeys(WRITES["orders"]["UPDATE"].split(), "closed_at finding state")
COLUMNS: dict[str, dict[str, str]] = {
    "actors": {"operate": "disabled_at"},
    "applies": {"apply": "fence finished_at receipt state"},
    "batches": {
        "intake": "accepted as_of context duplicate error finished_at read_at rejected rows_read source_sha256 state superseded",
        "sweep": "error finished_at state",
    },
    "claims": {"propose": "*", "apply": "*", "sweep": "closed_at"},
    "lane_minutes": {"propose": "*", "apply": "*", "sweep": "*"},
    "lanes": {"operate": "changed_at changed_by max_active per_minute"},
    "orders": _STATE_OF_AN_ORDER | {"operate": "closed_at finding state withdrawn_at"},
    "pauses": {"operate": "lifted_at lifted_by"},
    "pods": {"operate": "autonomy"},
    "proposals": {"apply": "state"},
    "queue": dict.fromkeys(
        WRITES["queue"]["UPDATE"].split(),
        "claim_id contract_breaks contract_id crashes drifts due_at fence lane move_no moved_at priority qa_rejects ready_lane rounds "
        "stage state throttles transients wait waiting_on",
    ),
    "tokens": {"operate": "revoked_at"},
    "workers": {"propose": "*", "apply": "*", "sweep": "ended stopped_at"},
}
"""Table → role → the columns that it may update, `*` for all."""

_UPDATABLE = """
SELECT c.relname, r.role, CASE WHEN has_table_privilege('shopfloor_' || r.role, c.oid, 'UPDATE') THEN '*' ELSE
         (SELECT string_agg(a.attname, ' ' ORDER BY a.attname COLLATE "C") FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND has_column_privilege('shopfloor_' || r.role, c.oid, a.attnum, 'UPDATE')) END
  FROM pg_class c CROSS JOIN unnest(%s::text[]) AS r (role)
 WHERE c.relnamespace = 'shopfloor'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND has_any_column_privilege('shopfloor_' || r.role, c.oid, 'UPDATE')
"""


def test_every_role_updates_exactly_the_columns_of_the_table_above(admin: Connection) -> None:
    found = set(look(admin, _UPDATABLE, sorted(EVERYBODY)))
    assert found == {(table, role, columns) for table, roles in COLUMNS.items() for role, columns in roles.items()}


_GRANTED = """
SELECT c.relname, v.verb, r.role FROM pg_class c
 CROSS JOIN unnest(%s::text[]) AS v (verb) CROSS JOIN unnest(%s::text[]) AS r (role)
 WHERE c.relnamespace = 'shopfloor'::regnamespace AND c.relkind IN ('r', 'p') AND c.relispartition = %s
   AND (has_table_privilege('shopfloor_' || r.role, c.oid, v.verb)
        OR v.verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('shopfloor_' || r.role, c.oid, v.verb))
"""


def test_every_role_holds_exactly_the_grants_of_the_table_above(admin: Connection) -> None:
    found = set(look(admin, _GRANTED, list(VERBS), sorted(EVERYBODY), False))
    wanted = {(table, verb, role) for table, verbs in WRITES.items() for verb, roles in verbs.items() for role in roles.split()}
    for table in WRITES:
        wanted |= {(table, "SELECT", role) for role in (READS[table].split() if table in READS else EVERYBODY)}
    assert found - wanted == set()
    assert wanted - found == set()
    tables = set(
        look(
            admin,
            "SELECT relname FROM pg_class WHERE relnamespace = 'shopfloor'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
        )
    )
    assert tables - WRITES.keys() - HIDDEN == set()


def test_no_role_holds_anything_on_a_partition(admin: Connection) -> None:
    assert look(admin, _GRANTED, list(VERBS), sorted(EVERYBODY), True) == []


def test_no_role_can_bypass_row_security_own_a_table_or_become_another(admin: Connection) -> None:
    names = [f"shopfloor_{role}" for role in EVERYBODY]
    rows = look(
        admin, "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)", names
    )
    assert rows == []
    assert look(admin, "SELECT c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = ANY(%s)", names) == []
    assert look(admin, "SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = ANY(%s)", names) == []


def test_every_table_of_a_workspace_forces_row_security(admin: Connection) -> None:
    bare = look(
        admin,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' "
        "WHERE c.relnamespace = 'shopfloor'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    assert bare == []


# ------------------------------------------------------------------ what nobody can do


@pytest.fixture
def one(road: Road) -> OpenProposal:
    [found] = propose(road, 1)
    return found


def refused(conn: Connection, workspace: UUID | None, query: str, *values: Any) -> Error:
    """Return the error with which the database refuses a statement; fails when it does not."""
    with pytest.raises(Error) as caught, transaction(conn, workspace):
        conn.execute(sql.SQL(query), values)
    return caught.value


HISTORY = ("moves", "decisions", "audit", "contracts", "verdicts", "attempts", "items", "legal_moves", "floors", "cells", "triggers")


@pytest.mark.parametrize("table", HISTORY)
def test_history_is_not_rewritten_by_any_role_nor_by_its_owner(
    shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID, table: str
) -> None:
    [first] = look(
        admin,
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1",
        f"shopfloor.{table}",
    )
    statements = (f"UPDATE {table} SET {first} = {first}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE")
    before = look(admin, f"SELECT count(*) FROM {table}")
    for role in Role:
        with shop.connect(role) as conn:
            for statement in statements:
                assert isinstance(refused(conn, workspace, statement), InsufficientPrivilege)
    # The superuser passes every grant and meets the triggers; a table without a row has nothing to refuse but TRUNCATE.
    for statement in statements if before != [0] else statements[2:]:
        assert "append-only" in str(refused(admin, None, statement))
    assert look(admin, f"SELECT count(*) FROM {table}") == before


def test_partitions_addressed_directly_are_guarded_too(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    partitions = look(admin, "SELECT tableoid::regclass::text FROM moves UNION SELECT tableoid::regclass::text FROM verdicts")
    assert partitions
    for partition in partitions:
        name = f"shopfloor.{partition.removeprefix('shopfloor.')}"
        for role in Role:
            with shop.connect(role) as conn:
                for statement in (f"SELECT FROM {name}", f"DELETE FROM {name}", f"TRUNCATE {name}"):
                    assert isinstance(refused(conn, workspace, statement), InsufficientPrivilege)
        for statement in (f"DELETE FROM {name}", f"TRUNCATE {name}"):
            assert "append-only" in str(refused(admin, None, statement))


def test_another_workspace_is_not_seen_and_not_written(shop: Shop, connect: Any, one: OpenProposal) -> None:
    other = ensure_workspace(connect(Role.OPERATE), "other")
    tables = ("items", "queue", "orders", "proposals", "moves", "bodies", "actors", "batches", "evidence", "verdicts")
    for role in (Role.INTAKE, Role.PROPOSE, Role.REVIEW, Role.APPLY, Role.OPERATE, Role.READ):
        conn = connect(role)
        for workspace in (other, None):
            with transaction(conn, workspace):
                for table in tables:
                    assert look(conn, f"SELECT count(*) FROM {table}") == [0], (role, table)
                assert look(conn, "SELECT count(*) FROM inspect.items") == [0]
    propose_conn = connect(Role.PROPOSE)
    with transaction(propose_conn, other):
        assert propose_conn.execute("UPDATE queue SET priority = 0").rowcount == 0


def test_a_row_cannot_be_written_into_another_workspace(connect: Any, workspace: UUID) -> None:
    conn = connect(Role.OPERATE)
    other = ensure_workspace(conn, "other")
    assert isinstance(
        refused(conn, other, "INSERT INTO actors (id, workspace_id, name, kind) VALUES (%s, %s, 'eve', 'person')", uuid4(), workspace),
        InsufficientPrivilege,
    )


@pytest.mark.parametrize("role", list(Role))
def test_a_role_records_only_the_moves_that_the_lifecycle_gives_it(
    shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID, role: Role
) -> None:
    from contracts.lifecycle import MOVES

    with shop.connect(role) as conn:
        for step in MOVES:
            if role in step.roles:
                continue
            error = refused(
                conn, workspace,
                "INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor) VALUES (%s, %s, now(), 99, 99, %s, 'psql')",
                one.item_id, workspace, step.number,
            )  # fmt: skip
            assert isinstance(error, InsufficientPrivilege), (role, step.name)


@pytest.mark.parametrize("role", [Role.INTAKE, Role.PROPOSE, Role.REVIEW, Role.APPLY, Role.OPERATE, Role.SWEEP])
def test_a_state_does_not_change_without_its_history(shop: Shop, one: OpenProposal, workspace: UUID, role: Role) -> None:
    with shop.connect(role) as conn:
        for statement in (
            "UPDATE queue SET stage = 'archive' WHERE item_id = %s",
            "UPDATE queue SET state = 'ready', wait = NULL, ready_lane = lane WHERE item_id = %s",
            "UPDATE queue SET fence = fence + 1 WHERE item_id = %s",
            "UPDATE queue SET move_no = move_no + 1 WHERE item_id = %s",
            "DELETE FROM queue WHERE item_id = %s",
        ):
            assert isinstance(refused(conn, workspace, statement, one.item_id), (CheckViolation, InsufficientPrivilege)), (role, statement)


_FORGED = """
WITH m AS (
  INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
  SELECT item_id, workspace_id, clock(), move_no + 1, fence, %s, 'psql' FROM queue WHERE item_id = %s)
UPDATE queue SET stage = 'apply', state = 'ready', lane = 'apply.tracker', ready_lane = 'apply.tracker', wait = NULL, move_no = move_no + 1
 WHERE item_id = %s
"""


def test_a_move_into_apply_needs_a_cleared_clearance_even_with_its_history(shop: Shop, one: OpenProposal, workspace: UUID) -> None:
    approve = legal_move("approve", *_at("qa", "waiting"), to=_at("apply", "ready")[0])
    with shop.connect(Role.REVIEW) as conn:
        error = refused(
            conn, workspace,
            _FORGED,
            approve.number, one.item_id, one.item_id,
        )  # fmt: skip
    assert isinstance(error, InsufficientPrivilege)
    assert "clearance" in str(error)


def _at(stage: str, state: str) -> tuple[Any, Any]:
    from contracts.lifecycle import Stage, State

    return Stage(stage), State(state)


BY_HAND = {
    "a state": "UPDATE proposals SET state = 'approved'",
    "a clearance": "UPDATE clearances SET state = 'cleared'",
    "a clearance of one's own": """
        INSERT INTO clearances (id, workspace_id, proposal_id, tier, needed)
        SELECT gen_random_uuid(), workspace_id, id, 'none', 0 FROM proposals""",
    "a decision": """
        INSERT INTO decisions (id, workspace_id, clearance_id, proposal_id, proposal_sha256, actor_id, decision, expires_at)
        SELECT gen_random_uuid(), p.workspace_id, c.id, p.id, p.sha256, a.id, 'approve', p.expires_at
          FROM proposals p, clearances c, actors a WHERE c.proposal_id = p.id""",
}


@pytest.mark.parametrize("what", BY_HAND)
def test_nobody_writes_a_decision_or_approves_a_proposal_by_hand(shop: Shop, one: OpenProposal, workspace: UUID, what: str) -> None:
    for role in Role:
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, BY_HAND[what]), InsufficientPrivilege), role


def test_ones_own_work_is_not_approved_by_the_function_either(shop: Shop, road: Road, admin: Connection) -> None:
    propose(road, 1, submitter="ada")
    token = person(shop, "ada", "reviewer", "admin", "operator")
    [(clearance, sha256)] = look(admin, "SELECT c.id, p.sha256 FROM clearances c JOIN proposals p ON p.id = c.proposal_id")
    call = "SELECT decide(gen_random_uuid(), %s, %s, %s, 'approve', '')"
    with shop.connect(Role.REVIEW) as conn:
        assert refused(conn, None, call, token_sha256(token), clearance, sha256).sqlstate == "SF403"
        assert refused(conn, None, call, token_sha256("shf_guess"), clearance, sha256).sqlstate == "SF401"
    for role in (Role.PROPOSE, Role.APPLY, Role.OPERATE, Role.READ, Role.SWEEP, Role.INTAKE, Role.AUDIT):
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, None, call, token_sha256(token), clearance, sha256), InsufficientPrivilege)


_INTENT = """
INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, idempotency_class, fence)
SELECT %s, workspace_id, id, item_id, sha256(sha256 || '\\x00'::bytea || convert_to(target, 'UTF8')), sha256, adapter, 'convergent', 1
  FROM proposals
"""


def test_work_that_is_not_approved_is_not_applied(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    with shop.connect(Role.APPLY) as conn:
        assert "may not be applied" in str(refused(conn, workspace, _INTENT, uuid4()))
        assert isinstance(refused(conn, workspace, "INSERT INTO proposals DEFAULT VALUES"), InsufficientPrivilege)
    for role in (Role.PROPOSE, Role.REVIEW, Role.OPERATE, Role.SWEEP):
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, _INTENT, uuid4()), InsufficientPrivilege)
    assert look(admin, "SELECT count(*) FROM applies") == [0]


_PROPOSE = """
SELECT (propose(ARRAY[gen_random_uuid()], ARRAY[%s::uuid], ARRAY['close'], ARRAY['acme/widgets#1'], ARRAY['tracker'], ARRAY[sha256('')],
  ARRAY[sha256('')], ARRAY[99], ARRAY[''], ARRAY[1.0::real], ARRAY['cell:x'], ARRAY[clock() + interval '1 day'],
  ARRAY[%s::int], ARRAY[%s::int], ARRAY['none'], ARRAY[gen_random_uuid()], 60)).clearance_state
"""


def test_a_proposal_is_born_approved_only_where_the_pods_own_row_says_so(
    shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID, road: Road
) -> None:
    road.take_in([issue(77)])
    worker = road.worker()
    [item] = take(worker.context, FairShare(), worker.id, worker.name, "route", batch=1, seconds=30).claim.items

    [single] = look(admin, "SELECT id FROM contracts WHERE name = 'issue_review'")
    [lenient] = look(
        admin,
        "INSERT INTO contracts (name, version, sha256, body, published_by) SELECT 'lenient', '1', sha256, "
        "convert_to(replace(convert_from(body, 'UTF8'), '\"tier\":\"single\"', '\"tier\":\"none\"'), 'UTF8'), 'test' "
        "FROM contracts WHERE id = %s RETURNING id",
        single,
    )

    def asked(item_id: UUID, fence: int, contract: int | None, within: UUID = workspace) -> list[str]:
        with shop.connect(Role.PROPOSE) as conn, conn.transaction(force_rollback=True):
            conn.execute("SELECT set_config('shopfloor.workspace', %s, true)", [str(within)])
            return [state for (state,) in conn.execute(_PROPOSE, [item_id, fence, contract])]

    for autonomy, born in (("report_only", "open"), ("draft_approve", "open"), ("full_auto", "cleared")):
        admin.execute("UPDATE pods SET autonomy = %s", [autonomy])
        assert asked(item.item_id, item.fence, lenient) == [born]
        for contract in (single, None):
            assert asked(item.item_id, item.fence, contract) == ["open"]
    admin.execute("UPDATE queue SET contract_id = %s WHERE item_id = %s", [single, item.item_id])
    assert asked(item.item_id, item.fence, lenient) == ["open"]  # it is pinned to another
    assert asked(item.item_id, item.fence + 1, lenient) == []  # a lease of somebody else
    assert asked(item.item_id, item.fence, lenient, uuid4()) == []  # another workspace
    assert asked(one.item_id, 3, lenient) == []  # not leased at all
    for role in (Role.APPLY, Role.REVIEW, Role.OPERATE, Role.READ):
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, _PROPOSE, item.item_id, item.fence, lenient), InsufficientPrivilege)


def test_a_proposal_keeps_the_identity_that_was_shown(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    for column, value in (
        ("sha256", "sha256(sha256)"),
        ("target", "'acme/widgets#2'"),
        ("action", "'delete'"),
        ("editors", "'{}'"),
        ("author", "'x'"),
    ):
        statement = f"UPDATE proposals SET {column} = {value}"
        for role in (Role.PROPOSE, Role.APPLY, Role.SWEEP):
            with shop.connect(role) as conn:
                assert isinstance(refused(conn, workspace, statement), InsufficientPrivilege)
        assert "immutable" in str(refused(admin, None, statement))


def test_a_token_itself_and_its_hash_are_readable_by_nobody(shop: Shop, workspace: UUID) -> None:
    with shop.connect(Role.OPERATE) as conn:
        ensure_actor(conn, workspace, "ada", kind="person", roles=("reader",))
    for role in Role:
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, "SELECT sha256 FROM tokens"), InsufficientPrivilege)


def test_no_login_can_make_what_a_function_or_a_guard_would_find_instead(shop: Shop, admin: Connection, workspace: UUID) -> None:
    for role in Role:
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, "CREATE TEMPORARY TABLE moves (item_id uuid)"), InsufficientPrivilege)
            assert isinstance(refused(conn, workspace, "CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid"), InsufficientPrivilege)
    # And were the database another's, who grants it: each looks where it is told, or was parsed when it was made.
    assert look(admin, _LOOKS_ANYWHERE) == []


_LOOKS_ANYWHERE = """
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'shopfloor'::regnamespace AND p.prosqlbody IS NULL
   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c (setting) WHERE c.setting ~ '^search_path=.*pg_temp$') ORDER BY 1
"""


def test_a_shadow_of_the_history_hides_nothing_from_its_guards(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    admin.execute("DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$")
    with shop.connect(Role.REVIEW) as conn:
        conn.execute("SELECT set_config('shopfloor.workspace', %s, false)", [str(workspace)])
        conn.execute("CREATE TEMPORARY TABLE moves AS SELECT item_id, no, 999 AS fence, legal, at FROM shopfloor.moves")
        conn.execute("UPDATE moves SET no = 999")
        with pytest.raises(CheckViolation, match="history does not put it"):
            conn.execute("UPDATE shopfloor.queue SET fence = 999, move_no = 999")
        conn.execute("CREATE TEMPORARY TABLE archived_items AS SELECT * FROM shopfloor.archived_items")
        with pytest.raises(CheckViolation, match="left the queue without"):
            conn.execute("DELETE FROM shopfloor.queue")


def test_what_a_login_says_of_a_person_is_recorded_as_its_own_word(shop: Shop, admin: Connection, workspace: UUID) -> None:
    record = "SELECT record_audit(%s, 'ada', %s, 'x', '')"
    for role in (Role.INTAKE, Role.PROPOSE, Role.APPLY, Role.OPERATE, Role.REVIEW, Role.SWEEP):
        with shop.connect(role) as conn:
            assert isinstance(refused(conn, workspace, record, workspace, "review.approve"), InsufficientPrivilege)
            assert isinstance(refused(conn, workspace, record, workspace, "apply.resolve"), InsufficientPrivilege)
            assert isinstance(refused(conn, workspace, record, uuid4(), "pause"), InsufficientPrivilege)
            assert isinstance(
                refused(conn, workspace, "SELECT write_audit(%s, 'ada', 'review.approve', 'x', '')", workspace), InsufficientPrivilege
            )
    with shop.connect(Role.OPERATE) as conn, transaction(conn, workspace):
        conn.execute(record, [workspace, "pause"])
    assert look(admin, "SELECT actor, login FROM audit WHERE object = 'x'") == [("ada", "shopfloor_operate")]


def test_nothing_is_called_applied_that_no_apply_has_applied(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    statement = "UPDATE proposals SET state = 'applied'"
    for role in (Role.PROPOSE, Role.SWEEP):
        with shop.connect(role) as conn:
            assert "permission denied" in str(refused(conn, workspace, statement))
    with shop.connect(Role.APPLY) as conn:
        assert "has no apply that was applied" in str(refused(conn, workspace, statement))


def test_a_lease_is_ended_by_its_holder_alone(shop: Shop, admin: Connection, road: Road, workspace: UUID) -> None:
    road.take_in([issue(77)])
    worker = road.worker()
    take(worker.context, FairShare(), worker.id, worker.name, "route", batch=1, seconds=30)
    for statement in ("UPDATE claims SET until = clock()", "UPDATE workers SET stopped_at = clock()"):
        with shop.connect(Role.APPLY) as conn, conn.transaction(force_rollback=True):
            assert conn.execute(statement).rowcount == 0
        with shop.connect(Role.PROPOSE) as conn, conn.transaction(force_rollback=True):
            assert conn.execute(statement).rowcount > 0


def test_an_order_neither_ends_before_its_items_nor_opens_again(shop: Shop, admin: Connection, one: OpenProposal, workspace: UUID) -> None:
    for role in (Role.INTAKE, Role.PROPOSE, Role.APPLY, Role.REVIEW, Role.OPERATE, Role.SWEEP):
        with shop.connect(role) as conn:
            early = "UPDATE orders SET state = 'done', closed_at = clock() WHERE state = 'open'"
            assert "an item of it is in progress" in str(refused(conn, workspace, early))
            for state in ("open", "refused"):
                again = f"UPDATE orders SET state = '{state}', closed_at = {'NULL' if state == 'open' else 'clock()'} WHERE state = 'done'"
                assert "has ended" in str(refused(conn, workspace, again))


def test_a_revoked_token_stays_revoked(shop: Shop, admin: Connection, workspace: UUID) -> None:
    person(shop, "ada", "reader")
    with shop.connect(Role.OPERATE) as conn:
        with transaction(conn, workspace):
            conn.execute("UPDATE tokens SET revoked_at = clock() WHERE revoked_at IS NULL")
        assert "was revoked" in str(refused(conn, workspace, "UPDATE tokens SET revoked_at = NULL"))
