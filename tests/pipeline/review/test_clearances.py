"""Decisions: who may answer, what each answer does to the item, and that it is bound to the bytes that were shown."""

from uuid import UUID

import pytest
from contracts.errors import Conflict, Denied, NotFound
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.review.clearances import Answer, Ballot, Decided, decide, decide_all
from pipeline.review.inbox import OpenProposal
from pipeline.startup.compose import Shop
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform
from tests.in_process import Clock, Road
from tests.reviews import ballot, look, person, propose


@pytest.fixture
def ada(shop: Shop) -> str:
    return person(shop, "ada", "reviewer")


def answer(shop: Shop, token: str, one: Ballot, said: Answer, reason: str = "", *, by: str = "ada") -> Decided:
    with shop.connect(Role.REVIEW) as conn:
        return decide(conn, shop.workspace_id(conn), token, one, said, reason, by=by)


def test_an_approved_proposal_is_applied_and_its_order_ends_done(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    decided = answer(shop, ada, ballot(one), Answer.APPROVE, "looks right")
    assert (decided.state, decided.lane) == ("cleared", "apply.tracker")
    assert road.states()["apply/ready"] == 1

    road.run()

    assert look(admin, "SELECT state FROM orders WHERE id = (SELECT order_id FROM items WHERE id = %s)", one.item_id) == ["done"]
    assert look(admin, "SELECT state FROM applies") == ["applied"]
    assert look(admin, "SELECT actor, reason FROM inspect.moves WHERE move = 'approve'") == [("ada", "looks right")]


def test_a_rejected_proposal_ends_its_item_refused_and_nothing_is_applied(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    assert answer(shop, ada, ballot(one), Answer.REJECT, "still broken").state == "refused"
    road.run()
    assert road.items(id=str(one.item_id))[0]["state"] == "refused"
    assert look(admin, "SELECT state, finding FROM orders WHERE state = 'refused'") == [("refused", "rejected")]
    assert look(admin, "SELECT count(*) FROM applies") == [0]


def test_a_returned_proposal_gets_a_new_attempt_that_is_told_why(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    assert answer(shop, ada, ballot(one), Answer.RETURN, "quote the changelog").lane == "rework"
    road.run()
    assert look(admin, "SELECT code, message FROM findings WHERE item_id = %s", one.item_id) == [("review.returned", "quote the changelog")]
    states = look(admin, "SELECT epoch, state FROM proposals WHERE item_id = %s ORDER BY epoch", one.item_id)
    assert states == [(1, "returned"), (2, "open")]


def test_bytes_other_than_those_shown_are_not_decided_on(shop: Shop, road: Road, ada: str) -> None:
    [one] = propose(road, 1)
    with pytest.raises(Conflict) as refused:
        answer(shop, ada, Ballot(one.id, bytes(32)), Answer.APPROVE)
    assert refused.value.instance_code == "review.stale"
    assert one.sha256.hex() in refused.value.message
    assert road.states()["qa/waiting"] == 1


@pytest.mark.parametrize(
    ("name", "roles", "kind"), [("bob", (), "person"), ("robot", ("reviewer",), "service"), ("root", ("operator", "admin"), "person")]
)
def test_only_a_person_who_is_a_reviewer_may_decide(shop: Shop, road: Road, name: str, roles: tuple[str, ...], kind: str) -> None:
    [one] = propose(road, 1)
    token = person(shop, f"{name}-2", *roles, kind=kind)
    with pytest.raises(Denied):
        answer(shop, token, ballot(one), Answer.APPROVE, by=name)
    assert road.states()["qa/waiting"] == 1


def test_whoever_submitted_the_work_may_not_approve_it(shop: Shop, road: Road, ada: str) -> None:
    [one] = propose(road, 1, submitter="ada")
    with pytest.raises(Denied, match="another person has to decide"):
        answer(shop, ada, ballot(one), Answer.APPROVE)


@pytest.mark.parametrize("token", ["", "shf_unknown"])
def test_without_a_token_that_holds_nothing_is_decided(shop: Shop, road: Road, token: str) -> None:
    [one] = propose(road, 1)
    with pytest.raises(Denied) as refused:
        answer(shop, token, ballot(one), Answer.APPROVE)
    assert refused.value.instance_code == "denied.token"


def test_an_expired_proposal_cannot_be_approved(shop: Shop, road: Road, clock: Clock, ada: str) -> None:
    [one] = propose(road, 1)
    clock.advance(seconds=100 * 86400)
    with pytest.raises(Conflict, match="expired"):
        answer(shop, ada, ballot(one), Answer.APPROVE)


def test_the_second_answer_to_a_decided_proposal_is_a_conflict(shop: Shop, road: Road, ada: str) -> None:
    [one] = propose(road, 1)
    answer(shop, ada, ballot(one), Answer.APPROVE)
    bob = person(shop, "bob", "reviewer")
    with pytest.raises(Conflict):
        answer(shop, bob, ballot(one), Answer.REJECT, by="bob")


def test_a_proposal_of_nobody_is_not_found(shop: Shop, ada: str) -> None:
    with pytest.raises(NotFound):
        answer(shop, ada, Ballot(new_id(), bytes(32)), Answer.APPROVE)


def test_a_dual_tier_needs_two_different_people(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    admin.execute("UPDATE clearances SET tier = 'dual', needed = 2")
    assert answer(shop, ada, ballot(one), Answer.APPROVE).state == "open"
    [waits] = road.items(id=str(one.item_id))
    assert (waits["stage"], waits["reason"]) == ("qa", "second_approval")
    assert "ada" in waits["waiting_on"]
    with pytest.raises(Conflict, match="decided already"):
        answer(shop, ada, ballot(one), Answer.APPROVE)

    bob = person(shop, "bob", "reviewer")
    assert answer(shop, bob, ballot(one), Answer.APPROVE, by="bob").state == "cleared"
    road.run()
    assert look(admin, "SELECT state FROM applies") == ["applied"]


def test_a_decision_on_an_item_that_stands_elsewhere_is_taken_back_whole(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    _pull_from_under(admin, one.item_id)
    with pytest.raises(Conflict) as refused:
        answer(shop, ada, ballot(one), Answer.APPROVE)
    assert refused.value.instance_code == "review.moved"
    assert look(admin, "SELECT count(*) FROM decisions") == [0]
    assert look(admin, "SELECT state FROM proposals") == ["open"]


def _pull_from_under(admin: Connection, item: UUID) -> None:
    """Move a waiting item on without ending its proposal, as no verb of ours does."""
    from contracts.lifecycle import RETURN

    with transaction(admin, None):
        [fence] = look(admin, "SELECT fence FROM queue WHERE item_id = %s", item)
        perform(admin, [Planned(item, fence, Route((RETURN,), "rework"))], by="test")


def test_an_answer_that_is_refused_stops_none_of_the_others(shop: Shop, road: Road, ada: str) -> None:
    first, second, third = propose(road, 3)
    ballots = [ballot(first), Ballot(second.id, bytes(32)), ballot(third)]
    with shop.connect(Role.REVIEW) as conn:
        results = decide_all(conn, shop.workspace_id(conn), ada, ballots, Answer.APPROVE, "", by="ada")
    assert [result.error is None for result in results] == [True, False, True]
    assert (road.states()["apply/ready"], road.states()["qa/waiting"]) == (2, 1)


def test_every_decision_leaves_an_audit_row_with_the_hash(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    answer(shop, ada, ballot(one), Answer.APPROVE, "fine")
    [(actor, payload)] = look(admin, "SELECT actor, payload FROM audit WHERE action = 'review.approve'")
    assert actor == "ada"
    assert one.sha256.hex() in payload


def test_a_disabled_reviewer_cannot_decide(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    admin.execute("UPDATE actors SET disabled_at = shopfloor.clock() WHERE name = 'ada'")
    with pytest.raises(Denied):
        answer(shop, ada, ballot(one), Answer.APPROVE)


def forge(admin: Connection, one: OpenProposal) -> None:
    """Let the row of a proposal say something else than its sealed bytes, past every guard."""
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE proposals SET target = 'acme/widgets#99' WHERE id = %s", [one.id])
    admin.execute("SET session_replication_role = origin")


def test_a_proposal_whose_row_says_other_than_its_bytes_cannot_be_approved(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    forge(admin, one)
    with pytest.raises(Conflict, match="not what its row says"):
        answer(shop, ada, ballot(one), Answer.APPROVE)
    assert road.states()["qa/waiting"] == 1


def test_a_proposal_whose_row_says_other_than_its_approved_bytes_is_not_applied(
    shop: Shop, road: Road, admin: Connection, ada: str
) -> None:
    [one] = propose(road, 1)
    answer(shop, ada, ballot(one), Answer.APPROVE)
    forge(admin, one)
    before = {path: path.read_bytes() for path in shop.tracker_dir.rglob("*.json")}

    road.run()

    assert {path: path.read_bytes() for path in shop.tracker_dir.rglob("*.json")} == before
    assert look(admin, "SELECT state FROM proposals") == ["failed"]
    assert look(admin, "SELECT count(*) FROM applies") == [0]
    [item] = road.items(id=str(one.item_id))
    assert (item["stage"], item["state"]) == ("apply", "refused")


def test_a_dry_run_is_refused_what_the_answer_would_be_and_leaves_nothing(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    with shop.connect(Role.REVIEW) as conn:
        workspace = shop.workspace_id(conn)
        for token, refused in ((ada, False), (person(shop, "bob", "reader"), True)):
            [said] = decide_all(conn, workspace, token, [ballot(one)], Answer.APPROVE, "", by="x", dry_run=True)
            assert (said.error is not None) == refused
    assert road.states()["qa/waiting"] == 1
    assert look(admin, "SELECT count(*) FROM decisions") == [0]


def test_what_a_cell_wrote_keeps_nobody_from_deciding(shop: Shop, road: Road, admin: Connection, ada: str) -> None:
    [one] = propose(road, 1)
    admin.execute("SET session_replication_role = replica")
    [sha256] = look(
        admin,
        "UPDATE bodies b SET bytes = t.bytes, sha256 = sha256(t.bytes) FROM (SELECT convert_to(replace(convert_from(bytes, 'UTF8'), "
        "'as completed', '\\u0000'), 'UTF8') AS bytes FROM bodies WHERE sha256 = %s) t WHERE b.sha256 = %s RETURNING b.sha256",
        one.sha256,
        one.sha256,
    )
    assert sha256 != one.sha256
    admin.execute("UPDATE proposals SET sha256 = %s", [sha256])
    admin.execute("SET session_replication_role = origin")
    assert answer(shop, ada, Ballot(one.id, sha256), Answer.REJECT).state == "refused"
