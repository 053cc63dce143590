"""dead: letters grouped by what they died of, replayed where they died, or pruned for good."""

from typing import Any
from uuid import UUID

import pytest
from contracts.attempts import Cause
from contracts.lifecycle import Role
from pipeline.review.clearances import Answer, decide
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road
from tests.item_states import buried, intend, lease, push
from tests.reviews import ballot, look, person, propose


def test_dead_letters_are_grouped_by_error_without_what_differs(road: Road, admin: Connection, cli: Any) -> None:
    buried(road, admin, 3)
    text = cli("dead", "list").stdout
    assert "3 × cell.issue_review: transient: the model at port … refused" in text
    listed = cli("dead", "list", "--json").json
    assert (listed["total"], len(listed["groups"])) == (3, 1)
    assert {row["error"] for row in listed["dead"]} == {f"transient: the model at port {port} refused" for port in (5000, 5001, 5002)}


def test_show_tells_the_whole_end_of_one(road: Road, admin: Connection, cli: Any) -> None:
    [item] = buried(road, admin, 1, note="transient: \x1b[31m refused")
    seen = cli("dead", "show", str(item))
    assert seen.exit_code == 0
    assert "by test: transient:" in seen.stdout
    assert "\x1b" not in seen.stdout
    assert f"shopfloor dead replay {item}" in seen.stdout
    assert cli("dead", "show", str(item), "--json").json["dead"]["moves"][0]["move"] == "bury"


def test_a_replayed_letter_goes_on_where_it_died_and_says_who(road: Road, admin: Connection, cli: Any) -> None:
    [item] = buried(road, admin, 1)
    assert cli("dead", "replay", str(item), "--why", "the model is back").exit_code == 0
    assert look(admin, "SELECT stage, state, transients FROM queue") == [("workcell", "ready", 0)]
    road.run()
    assert road.states() == {"archive/done": 1}
    assert look(admin, "SELECT from_state, to_state, reason FROM inspect.moves WHERE move = 'requeue'") == [
        ("dead", "ready", "the model is back")
    ]


def test_letters_are_replayed_by_their_error_over_a_while(road: Road, admin: Connection, cli: Any) -> None:
    buried(road, admin, 2)
    assert cli("dead", "replay", "--error", "REFUSED").exit_code == 2  # more than one needs --yes
    assert cli("dead", "replay", "--error", "nothing like it", "--yes").stdout == "nothing matches\n"
    done = cli("dead", "replay", "--error", "REFUSED", "--stagger", "10m", "--yes", "--json")
    assert (done.exit_code, done.json["done"]) == (0, 2)
    assert look(admin, "SELECT round(extract(epoch FROM due_at - moved_at)) FROM queue ORDER BY 1") == [0, 600]


def test_a_pruned_letter_is_filed_dead_and_closes_its_order(road: Road, admin: Connection, cli: Any) -> None:
    first, second = buried(road, admin, 2)
    assert cli("dead", "prune", str(first), "--dry-run").stdout.startswith("would be pruned")
    assert len(look(admin, "SELECT 1 FROM queue")) == 2
    done = cli("dead", "prune", str(first), "--why", "the repository is gone")
    assert (done.exit_code, done.stderr) == (0, "")
    assert look(admin, "SELECT item_id, state FROM archived_items") == [(first, "dead")]
    assert look(
        admin, "SELECT o.state FROM orders o JOIN items i ON i.order_id = o.id WHERE i.id = ANY(%s) ORDER BY i.id", [first, second]
    ) == ["dead", "open"]
    assert road.states() == {"workcell/dead": 2}
    assert look(admin, "SELECT object, payload FROM audit WHERE action = 'steer.prune'") == [
        (str(first), f"the repository is gone\n{first}")
    ]
    assert cli("dead", "replay", str(first)).exit_code == 4


def test_a_letter_whose_apply_may_have_had_an_effect_is_not_pruned(
    shop: Shop, road: Road, admin: Connection, workspace: UUID, cli: Any
) -> None:
    [one] = propose(road, 1)
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, workspace, person(shop, "ada", "reviewer"), ballot(one), Answer.APPROVE, "", by="ada")
    lease(admin, one.item_id)
    intend(admin, one.id)
    push(admin, one.item_id, "bury", note="transient: no answer", cause=Cause.TRANSIENT)
    refused = cli("dead", "prune", str(one.item_id))
    assert refused.exit_code == 4
    assert "apply probe" in refused.stderr
    assert road.states()["apply/dead"] == 1


def test_living_items_are_no_dead_letters(road: Road, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    for verb in ("replay", "prune"):
        refused = cli("dead", verb, str(one.item_id))
        assert refused.exit_code == 4
        assert "is not a dead letter; it is waiting" in refused.stderr
    assert cli("dead", "show", str(one.item_id)).exit_code == 3
    assert cli("dead", "list").stdout == "no dead letters\n"


def test_letters_are_named_by_subject_and_the_living_among_them_are_left_alone(road: Road, admin: Connection, cli: Any) -> None:
    buried(road, admin, 2)
    assert cli("dead", "replay", "acme/widgets#1").exit_code == 0
    assert "acme/widgets#2" in cli("dead", "show", "acme/widgets#2").stdout
    assert cli("dead", "show", "acme/widgets#1").exit_code == 3
    done = cli("dead", "replay", "-", "--yes", "--json", input="acme/widgets#1\nacme/widgets#2\nacme/widgets#3\n")
    assert done.exit_code == 7
    assert [(row["about"] or row["id"], row["code"]) for row in done.json["results"]] == [
        ("acme/widgets#1", "dead.not"), ("acme/widgets#2", ""), ("acme/widgets#3", "not_found"),
    ]  # fmt: skip
    assert look(admin, "SELECT DISTINCT state FROM queue") == ["ready"]


def test_letters_are_replayed_by_a_rule_over_their_payload(road: Road, admin: Connection, cli: Any) -> None:
    first, second, third = buried(road, admin, 3)
    push(admin, third, "requeue")
    looked = cli("dead", "replay", "--error", "refused", "--where", "item.number != 1", "--dry-run", "--json")
    assert [row["id"] for row in looked.json["results"]] == [str(second)]
    assert looked.stderr == "looked at 2 payloads\n", "the living are not looked at"
    assert cli("dead", "replay", "--where", "item.number == 1", "--yes").exit_code == 0
    assert look(admin, "SELECT item_id FROM queue WHERE state = 'dead'") == [second]
    assert look(admin, "SELECT state FROM queue WHERE item_id = %s", first) == ["ready"]


@pytest.mark.parametrize("verb", ["replay", "prune"])
def test_saying_nothing_means_nothing(road: Road, admin: Connection, cli: Any, verb: str) -> None:
    buried(road, admin, 1)
    assert cli("dead", verb, "--yes").exit_code == 2
    assert look(admin, "SELECT state FROM queue") == ["dead"]
