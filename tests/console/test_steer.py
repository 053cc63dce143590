"""requeue, rework, cancel: one item or many, what may not be steered and why."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.errors import InsufficientPrivilege
from contracts.attempts import Cause
from contracts.lifecycle import APPROVE, Role
from pipeline.operations import payloads, steering
from pipeline.operations.selection import select_by_rule
from pipeline.review.clearances import Answer, decide
from pipeline.startup.compose import Shop
from queues.database import Connection, transaction
from queues.lookup import Filter
from queues.mover import Planned, Route, perform
from tests.in_process import Road, issue
from tests.item_states import intend, lease, push, waiting_for_a_person
from tests.reviews import ballot, look, person, propose


def test_requeue_makes_items_that_wait_for_a_person_due_and_says_who(road: Road, admin: Connection, cli: Any) -> None:
    [item] = waiting_for_a_person(road, admin)
    looked = cli("requeue", "--reason", "human", "--dry-run", "--json")
    assert looked.json["results"] == [
        {"id": str(item), "about": "acme/widgets#1", "outcome": "would be due", "code": "", "why": "", "next": ""}
    ]
    assert look(admin, "SELECT state FROM queue") == ["waiting"]

    done = cli("requeue", str(item), "--why", "answered by mail")
    assert (done.exit_code, done.stderr) == (0, "")
    [(state, reason)] = look(
        admin, "SELECT q.state, m.reason FROM queue q JOIN inspect.moves m ON m.item_id = q.item_id::text AND m.no = q.move_no"
    )
    assert (state, reason) == ("ready", "answered by mail")
    assert look(admin, "SELECT action, payload FROM audit WHERE action = 'steer.requeue'") == [
        ("steer.requeue", f"answered by mail\n{item}")
    ]
    road.run()
    assert road.states() == {"archive/done": 1}


def test_filters_act_on_many_only_with_yes(road: Road, admin: Connection, cli: Any) -> None:
    waiting_for_a_person(road, admin, 3)
    refused = cli("cancel", "--state", "waiting", "--flow", "issue-sweep")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert len(look(admin, "SELECT 1 FROM queue")) == 3
    done = cli("cancel", "--state", "waiting", "--flow", "issue-sweep", "--yes", "--json")
    assert (done.exit_code, done.json["done"]) == (0, 3)
    assert road.states() == {"workcell/cancelled": 3}
    assert look(admin, "SELECT DISTINCT state FROM orders") == ["cancelled"]


def test_saying_nothing_means_nothing(road: Road, admin: Connection, cli: Any) -> None:
    waiting_for_a_person(road, admin)
    for verb in (("requeue",), ("cancel", "--yes"), ("rework", "--why", "again", "--yes")):
        assert cli(*verb).exit_code == 2
    assert look(admin, "SELECT state FROM queue") == ["waiting"]


def test_stagger_spreads_the_due_times(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    items = waiting_for_a_person(road, admin, 3)
    with shop.connect(Role.OPERATE) as conn:
        steering.requeue(conn, workspace, items, by="ops", why="", stagger_seconds=60)
    waits = look(admin, "SELECT round(extract(epoch FROM due_at - moved_at)) FROM queue ORDER BY item_id")
    assert waits == [0, 30, 60]


def test_a_requeued_item_gets_a_new_run_of_attempts_but_still_travels_alone(
    shop: Shop, road: Road, admin: Connection, workspace: UUID
) -> None:
    [item] = waiting_for_a_person(road, admin)
    admin.execute("UPDATE queue SET crashes = 2, transients = 7, qa_rejects = 2")
    with shop.connect(Role.OPERATE) as conn:
        steering.requeue(conn, workspace, [item], by="ops", why="")
    assert look(admin, "SELECT crashes, transients, qa_rejects FROM queue") == [(1, 0, 0)]


def test_an_open_proposal_is_not_requeued_but_may_be_reworked(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    refused = cli("requeue", str(one.item_id))
    assert refused.exit_code == 4
    assert "waits for a reviewer" in refused.stderr
    done = cli("rework", str(one.item_id), "--why", "the body changed")
    assert done.exit_code == 0
    assert look(admin, "SELECT p.state, c.state FROM proposals p JOIN clearances c ON c.proposal_id = p.id") == [("superseded", "void")]
    road.run()
    assert look(admin, "SELECT state FROM proposals ORDER BY epoch") == ["superseded", "open"]
    assert look(admin, "SELECT code, message FROM findings") == [("operator.returned", "the body changed")]


def test_cancelling_ends_the_open_proposal_with_its_item(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    assert cli("cancel", str(one.item_id)).exit_code == 0
    assert look(admin, "SELECT p.state, c.state FROM proposals p JOIN clearances c ON c.proposal_id = p.id") == [("cancelled", "void")]
    assert cli("review", "approve", str(one.id)).exit_code == 4


def test_what_is_approved_and_not_begun_can_still_be_cancelled(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    [one] = propose(road, 1)
    approve(shop, workspace, one)
    with shop.connect(Role.OPERATE) as conn:
        [done] = steering.cancel(conn, workspace, [one.item_id], by="ops", why="")
    assert done.error is None
    road.run()
    assert look(admin, "SELECT state FROM proposals") == ["cancelled"]
    assert look(admin, "SELECT count(*) FROM applies") == [0]


def approve(shop: Shop, workspace: UUID, one: Any) -> None:
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, workspace, person(shop, "ada", "reviewer"), ballot(one), Answer.APPROVE, "", by="ada")


def test_what_is_being_applied_right_now_is_left_alone(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    [one] = propose(road, 1)
    approve(shop, workspace, one)
    lease(admin, one.item_id)
    with shop.connect(Role.OPERATE) as conn:
        [refused] = steering.cancel(conn, workspace, [one.item_id], by="ops", why="")
    assert refused.error is not None
    assert "being applied right now" in refused.error.message
    assert road.states()["apply/leased"] == 1


@pytest.mark.parametrize("verb", ["cancel", "rework"])
def test_an_item_whose_apply_may_have_had_an_effect_is_not_forgotten(
    shop: Shop, road: Road, admin: Connection, workspace: UUID, verb: str
) -> None:
    [one] = propose(road, 1)
    approve(shop, workspace, one)
    lease(admin, one.item_id)
    intend(admin, one.id)
    push(admin, one.item_id, "retry", cause=Cause.TRANSIENT)
    with shop.connect(Role.OPERATE) as conn:
        [refused] = getattr(steering, verb)(conn, workspace, [one.item_id], by="ops", why="x")
    assert refused.error is not None
    assert refused.error.instance_code == "apply.unknown"
    assert "apply probe" in refused.error.hint
    assert road.states()["apply/ready"] == 1


def test_a_dry_run_and_the_act_agree_on_every_item(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    first, second = propose(road, 2)
    assert cli("cancel", str(first.item_id)).exit_code == 0
    names = [str(first.item_id), str(second.item_id), str(uuid4())]
    looked = cli("cancel", *names, "--dry-run", "--jsonl")
    acted = cli("cancel", *names, "--yes", "--jsonl")
    assert looked.exit_code == acted.exit_code == 7
    would = [(row["id"], row["code"]) for row in map(json.loads, looked.stdout.splitlines())]
    did = [(row["id"], row["code"]) for row in map(json.loads, acted.stdout.splitlines())]
    assert would == did == [(names[0], "item.ended"), (names[1], ""), (names[2], "not_found")]


def test_items_are_named_by_subject_order_and_beginning_each_once(road: Road, admin: Connection, cli: Any) -> None:
    first, second, third = waiting_for_a_person(road, admin, 3)
    [order] = look(admin, "SELECT order_id FROM items WHERE id = %s", second)
    names = f"acme/widgets#1\n{first}\n{order}\n\n  {str(third)[:-2]}  \n"
    done = cli("requeue", "-", "acme/widgets#3", "--yes", "--jsonl", input=names)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [str(first), str(second), str(third)]
    assert look(admin, "SELECT DISTINCT state FROM queue") == ["ready"]


def test_a_name_that_means_none_or_several_is_told_and_the_others_are_done(road: Road, admin: Connection, cli: Any) -> None:
    items = waiting_for_a_person(road, admin, 3)
    assert len({str(item)[:8] for item in items}) == 1, "taken in together, their ids begin alike"
    shared = str(items[0])[:8]
    names = ["acme/widgets#1", "acme/widgets#99", shared, "\x1b[31m", "acme/widgets#2"]
    done = cli("cancel", *names, "--yes", "--jsonl")
    assert done.exit_code == 7
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["id"], row["outcome"], row["code"]) for row in rows] == [
        (str(items[0]), "cancelled", ""), (str(items[1]), "cancelled", ""),
        ("acme/widgets#99", "refused", "not_found"), (shared, "refused", "id.ambiguous"), ("\x1b[31m", "refused", "not_found"),
    ]  # fmt: skip
    assert look(admin, "SELECT item_id FROM queue") == [items[2]]
    text = cli("cancel", "acme/widgets#99", shared, "acme/widgets#3", "--dry-run")
    assert text.exit_code == 7
    assert f"3 items start with '{shared}': expected one" in text.stdout
    assert f"next for {shared}: type more of its id" in text.stdout
    assert "next for acme/widgets#99: shopfloor items" in text.stdout
    alone = cli("cancel", "acme/widgets#99")
    assert (alone.exit_code, alone.stdout) == (3, "")
    assert "no item, order or subject 'acme/widgets#99'" in alone.stderr


def test_a_subject_that_is_open_in_two_flows_has_to_be_named_by_id(road: Road, admin: Connection, cli: Any) -> None:
    [item] = waiting_for_a_person(road, admin)
    order, other = uuid4(), uuid4()
    admin.execute(
        "INSERT INTO orders (id, workspace_id, batch_id, pod_id, flow, subject_key, revision, payload_sha256, submitter) "
        "SELECT %s, workspace_id, batch_id, pod_id, 'label-sweep', subject_key, revision, payload_sha256, submitter FROM orders",
        [order],
    )
    admin.execute(
        "INSERT INTO items (id, workspace_id, order_id, batch_id, row_no, flow, payload_sha256) "
        "SELECT %s, workspace_id, %s, batch_id, row_no, 'label-sweep', payload_sha256 FROM items",
        [other, order],
    )
    refused = cli("cancel", "acme/widgets#1")
    assert refused.exit_code == 2
    assert "label-sweep" in refused.stderr
    assert str(item) in refused.stderr
    assert look(admin, "SELECT state FROM queue") == ["waiting"]
    assert cli("cancel", str(item)).exit_code == 0


def test_a_rule_over_the_payload_picks_together_with_the_other_filters(road: Road, admin: Connection, cli: Any) -> None:
    items = waiting_for_a_person(road, admin, 4)
    push(admin, items[3], "requeue")
    rule = "item.number > 2 && item.title.contains('Unheard')"
    looked = cli("cancel", "--reason", "human", "--where", rule, "--dry-run", "--jsonl")
    assert [json.loads(line)["about"] for line in looked.stdout.splitlines()] == ["acme/widgets#3"]
    assert looked.stderr == "looked at 3 payloads\n"
    assert cli("cancel", "--reason", "human", "--where", rule).exit_code == 2, "by a rule even one needs --yes"
    assert cli("cancel", "--reason", "human", "--where", rule, "--yes").exit_code == 0
    assert look(admin, "SELECT item_id FROM queue ORDER BY item_id") == [items[0], items[1], items[3]]
    done = cli("requeue", "--where", "item.number == 2", "--batch", "latest", "--order", "acme/widgets#2", "--yes")
    assert (done.exit_code, f"due: {items[1]}" in done.stdout) == (0, True)
    assert cli("rework", "--where", "item.number == 1", "--why", "again", "--dry-run", "--json").json["done"] == 1


def test_a_rule_that_is_none_does_nothing_and_one_without_an_answer_says_for_which(road: Road, admin: Connection, cli: Any) -> None:
    waiting_for_a_person(road, admin, 2)
    wrong = cli("cancel", "--where", "item.(", "--yes")
    assert wrong.exit_code == 2
    assert "--where: not a CEL expression" in wrong.stderr
    assert cli("cancel", "acme/widgets#1", "--where", "true").exit_code == 2, "a name or a rule, not both"
    some = cli("cancel", "--where", "item.number == 1 || item.milestone.title == 'x'", "--yes", "--json")
    assert (some.exit_code, [row["about"] for row in some.json["results"]]) == (0, ["acme/widgets#1"])
    assert "looked at 2 payloads, 1 of them had no answer and do not match, such as acme/widgets#2: " in some.stderr
    assert "there is no field" in some.stderr
    none = cli("cancel", "--where", "item.number + 1", "--yes")
    assert (none.exit_code, none.stdout) == (0, "nothing matches\n")
    assert "expected true or false" in none.stderr
    assert look(admin, "SELECT count(*) FROM queue") == [1]


def test_a_rule_looks_at_more_payloads_than_one_question_may(
    shop: Shop, road: Road, admin: Connection, workspace: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "_PAGE_ROWS", 2)
    monkeypatch.setattr(payloads, "MAX_SCANNED", 2)
    items = waiting_for_a_person(road, admin, 7)
    told: list[int] = []
    with shop.connect(Role.OPERATE) as conn:
        odd = payloads.compile_rule("item.number % 2 == 1")
        found = select_by_rule(conn, shop.store, workspace, Filter(), odd, on_progress=told.append)
        assert (found.items, found.is_cut, told) == (items[::2], False, [2, 4, 6])
        cut = select_by_rule(conn, shop.store, workspace, Filter(), odd, limit=2)
        assert (cut.items, cut.is_cut) == (items[:4:2], True)


def test_only_operators_steer(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    [item] = waiting_for_a_person(road, admin)
    refused = cli("requeue", str(item), env={"SHOPFLOOR_TOKEN": person(shop, "ada", "reviewer")})
    assert refused.exit_code == 5
    assert look(admin, "SELECT state FROM queue") == ["waiting"]


def test_an_operator_cannot_move_an_item_past_its_reviewers(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    [one] = propose(road, 1)
    with shop.connect(Role.OPERATE) as conn, pytest.raises(InsufficientPrivilege), transaction(conn, workspace):
        [(fence,)] = conn.execute("SELECT fence FROM queue WHERE item_id = %s", [one.item_id]).fetchall()
        perform(conn, [Planned(one.item_id, fence, Route((APPROVE,), "apply.tracker"))], by="ops")


def test_a_name_that_nothing_bears_is_refused_and_not_taken_for_nothing(road: Road, admin: Connection, cli: Any) -> None:
    road.take_in([issue(1)])
    for option, said in (("--lane", "no lane 'nope'"), ("--flow", "no flow 'nope'")):
        for command in (["cancel", option, "nope", "--yes"], ["items", option, "nope"]):
            refused = cli(*command)
            assert (refused.exit_code, said in refused.stderr) == (3, True), refused.stderr
    assert cli("items", "--lane", "qa").exit_code == 0, "an empty lane is a lane"
    admin.execute("UPDATE batches SET flow = 'another'")
    assert cli("items", "--flow", "issue-sweep").exit_code == 0, "a flow that nothing was taken in for yet is one"
    empty = cli("cancel", "-", "--yes", input="\n")
    assert (empty.exit_code, "standard input held no ids" in empty.stderr) == (2, True), empty.stderr
