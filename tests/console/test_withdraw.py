"""withdraw: a revision that should not have come in makes no other row of its subject old."""

from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import InsufficientPrivilege
from contracts.attempts import Cause
from contracts.lifecycle import Role
from pipeline.review.clearances import Answer, decide
from pipeline.startup.compose import Shop
from queues.database import Connection, transaction
from tests.in_process import Road, issue
from tests.item_states import buried, intend, lease, push
from tests.reviews import ballot, item_of, look, person, propose

SUBJECT = "acme/widgets#1"
TRUE, WRONG, NEXT = "2025-03-01T00:00:00Z", "2026-06-01T00:00:00Z", "2025-04-01T00:00:00Z"


def came_of(road: Road, revision: str, **fields: Any) -> str:
    """Take in a row of the subject and return whether it was accepted, rejected or a duplicate."""
    report = road.take_in([issue(1, updated_at=revision, **fields)])
    return "accepted" if report.accepted else "duplicate" if report.duplicate else "rejected"


def test_after_a_wrong_revision_was_withdrawn_the_true_rows_come_in_again(road: Road, admin: Connection, cli: Any) -> None:
    assert [came_of(road, revision) for revision in (TRUE, WRONG, NEXT)] == ["accepted", "accepted", "duplicate"]
    [(message, wrong)] = look(admin, "SELECT message, order_id::text FROM batch_rows WHERE outcome = 'duplicate'")
    assert message == f"revision {WRONG} is known, from order {wrong}"

    looked = cli("withdraw", str(wrong), "--why", "a wrong clock", "--dry-run")
    assert (looked.exit_code, looked.stdout.split(":")[0]) == (0, "would be withdrawn")
    assert came_of(road, NEXT) == "duplicate"

    done = cli("withdraw", str(wrong), "--why", "a wrong clock")
    assert (done.exit_code, done.stdout.split(":")[0]) == (0, "withdrawn")
    assert [came_of(road, revision, title="once more") for revision in (TRUE, NEXT)] == ["accepted", "accepted"]
    assert came_of(road, NEXT, title="once more") == "duplicate"
    assert look(admin, "SELECT state, withdrawn_at IS NOT NULL FROM orders ORDER BY id") == [
        ("superseded", True), ("cancelled", True), ("superseded", False), ("open", False),
    ]  # fmt: skip
    [payload] = look(admin, "SELECT payload FROM audit WHERE action = 'steer.withdraw'")
    assert payload.startswith("a wrong clock\n")
    assert "its revision was withdrawn" in cli("why", str(wrong)).stdout
    assert cli("doctor", "--strict").exit_code == 0


def test_a_revision_whose_work_had_ended_is_withdrawn_as_it_is(road: Road, admin: Connection, cli: Any) -> None:
    """What was superseded before it, and ended by itself, is no work again."""
    assert came_of(road, TRUE) == "accepted"
    assert cli("cancel", SUBJECT).exit_code == 0
    assert came_of(road, WRONG, state="closed") == "accepted"
    assert cli("withdraw", SUBJECT, "--why", "a wrong clock").exit_code == 0
    assert look(admin, "SELECT state, finding FROM orders WHERE withdrawn_at IS NOT NULL") == [("done", "context")]
    assert [came_of(road, revision) for revision in (TRUE, NEXT)] == ["duplicate", "accepted"]


def test_of_a_chain_of_wrong_revisions_each_is_withdrawn_and_the_true_one_comes_in(road: Road, cli: Any) -> None:
    for revision in (TRUE, "2026-05-01T00:00:00Z", WRONG):
        assert came_of(road, revision) == "accepted"
    assert cli("withdraw", SUBJECT, "--why", "a wrong clock").exit_code == 0
    assert came_of(road, TRUE) == "duplicate", "the wrong one before was superseded, and may come in again: nothing else"
    assert came_of(road, "2026-05-01T00:00:00Z") == "accepted"


def test_a_whole_batch_is_withdrawn_with_yes(road: Road, admin: Connection, cli: Any) -> None:
    road.take_in([issue(number, updated_at=TRUE) for number in range(1, 5)])
    road.take_in([issue(number, updated_at=WRONG, state=("open", "closed")[number % 2]) for number in range(1, 5)])
    refused = cli("withdraw", "--batch", "latest", "--why", "the wrong column")
    assert (refused.exit_code, "would act on 4 by filters: say --yes" in refused.stderr) == (2, True), refused.stderr
    done = cli("withdraw", "--batch", "latest", "--why", "the wrong column", "--yes", "--json")
    assert (done.exit_code, done.json["done"]) == (0, 4), done.stderr
    again = road.take_in([issue(number, updated_at=TRUE) for number in range(1, 5)])
    assert (again.accepted, again.duplicate) == (4, 0)
    assert cli("withdraw", "--batch", str(done.json["results"][0]["id"]), "--why", "x").exit_code == 3


def test_the_text_index_takes_any_revision_after_a_withdrawn_one(road: Road, admin: Connection, cli: Any) -> None:
    came_of(road, WRONG, title="the wrong one")
    assert cli("withdraw", SUBJECT, "--why", "a wrong clock").exit_code == 0
    assert came_of(road, TRUE, title="the true one") == "accepted"
    assert look(admin, "SELECT title, revision FROM subjects") == [("the true one", TRUE)]


def test_a_dead_letter_is_pruned_and_an_open_proposal_ends(road: Road, admin: Connection, cli: Any) -> None:
    [dead] = buried(road, admin, 1)
    assert cli("withdraw", str(dead), "--why", "a wrong clock").exit_code == 0
    assert look(admin, "SELECT state, withdrawn_at IS NOT NULL FROM orders") == [("dead", True)]
    [proposed] = propose(road, 1)
    assert cli("withdraw", str(proposed.item_id), "--why", "a wrong clock").exit_code == 0
    assert look(admin, "SELECT p.state, o.state, o.withdrawn_at IS NOT NULL FROM proposals p JOIN orders o ON o.id = p.order_id") == [
        ("cancelled", "cancelled", True)
    ]


def test_what_may_have_been_applied_is_refused_and_stays(shop: Shop, road: Road, admin: Connection, workspace: UUID, cli: Any) -> None:
    [one] = propose(road, 1)
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, workspace, person(shop, "ada", "reviewer"), ballot(one), Answer.APPROVE, "", by="ada")
    lease(admin, one.item_id)
    intend(admin, one.id)
    push(admin, one.item_id, "retry", cause=Cause.TRANSIENT)
    refused = cli("withdraw", str(one.item_id), "--why", "a wrong clock")
    assert (refused.exit_code, "an apply of unknown effect" in refused.stderr) == (4, True), refused.stderr
    assert look(admin, "SELECT withdrawn_at FROM orders WHERE state = 'open'") == [None]


def test_a_lease_is_taken_away_with_its_revision(road: Road, admin: Connection, cli: Any) -> None:
    came_of(road, WRONG)
    item = item_of(admin, SUBJECT)
    lease(admin, item)
    assert cli("withdraw", str(item), "--why", "a wrong clock").exit_code == 0
    assert came_of(road, TRUE) == "accepted"


def test_nothing_is_withdrawn_twice_or_without_a_reason(road: Road, cli: Any) -> None:
    came_of(road, WRONG)
    blank = cli("withdraw", SUBJECT, "--why", " ")
    assert (blank.exit_code, "withdraw needs a reason" in blank.stderr) == (2, True)
    assert cli("withdraw", SUBJECT, "--why", "a wrong clock").exit_code == 0
    again = cli("withdraw", SUBJECT, "--why", "a wrong clock")
    assert (again.exit_code, "was withdrawn before" in again.stderr) == (4, True)


@pytest.mark.parametrize(
    "change",
    ["withdrawn_at = NULL", "withdrawn_at = clock()", "withdrawn_at = clock(), finding = 'x'", "state = 'open', closed_at = NULL"],
)
def test_a_withdrawn_order_changes_no_more(shop: Shop, road: Road, workspace: UUID, cli: Any, change: str) -> None:
    came_of(road, WRONG)
    assert cli("withdraw", SUBJECT, "--why", "a wrong clock").exit_code == 0
    with shop.connect(Role.OPERATE) as conn, pytest.raises(InsufficientPrivilege, match="has ended"), transaction(conn, workspace):
        conn.execute(f"UPDATE orders SET {change}")
