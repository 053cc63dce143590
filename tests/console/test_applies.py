"""apply: what was sent and what came back, the diff before, and a person's word where the target cannot tell."""

import getpass
import json
from typing import Any
from uuid import UUID

import pytest
from contracts.attempts import Cause
from contracts.errors import BadInput, Conflict, Denied
from contracts.lifecycle import Role, Wait
from pipeline.review.applies import applies, find_apply, probe_again, resolve
from pipeline.review.clearances import Answer, decide
from pipeline.review.inbox import OpenProposal
from pipeline.review.proposal import find_proposal
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road
from tests.item_states import intend, lease, push
from tests.reviews import ballot, look, person, propose


def approved(shop: Shop, road: Road, workspace: UUID) -> OpenProposal:
    """Return a proposal that a reviewer has approved."""
    [one] = propose(road, 1)
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, workspace, person(shop, "ada", "reviewer"), ballot(one), Answer.APPROVE, "", by="ada")
    return one


@pytest.fixture
def unknown(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> OpenProposal:
    """An approved proposal whose apply was begun, with nobody knowing what came of it."""
    one = approved(shop, road, workspace)
    lease(admin, one.item_id)
    intend(admin, one.id, "unknown")
    push(admin, one.item_id, "escalate", wait=Wait.UNKNOWN, waiting_on="a person", note="the connection was cut")
    return one


def test_the_list_and_one_apply_show_what_was_sent_and_what_came_back(shop: Shop, road: Road, workspace: UUID, cli: Any) -> None:
    one = approved(shop, road, workspace)
    [due] = cli("apply", "list", "--state", "due", "--json").json["applies"]
    assert due["proposal_id"] == str(one.id)
    road.run()
    [row] = cli("apply", "list", "--jsonl").stdout.splitlines()
    assert (json.loads(row)["state"], json.loads(row)["target"]) == ("applied", "acme/widgets#1")
    shown = cli("apply", "show", "acme/widgets#1", "--json").json["apply"]
    assert shown["envelope"]["payload"]["state"] == "closed"
    assert shown["receipt"]["changed"] is True
    assert [move["move"] for move in shown["moves"]] == ["approve", "claim", "carry"]
    assert cli("apply", "probe", "acme/widgets#1").exit_code == 4


def test_an_approval_that_ends_without_anything_sent_is_listed_with_why(shop: Shop, road: Road, workspace: UUID, cli: Any) -> None:
    gone = approved(shop, road, workspace)
    next(shop.tracker_dir.glob("acme__widgets/1.json")).unlink()
    road.run()
    assert road.items(id=str(gone.item_id))[0]["state"] == "refused"
    for arguments in ([], ["--state", "failed"], ["--state", "failed", "--adapter", "tracker"]):
        [row] = cli("apply", "list", "--json", *arguments).json["applies"]
        assert (row["state"], row["target"], row["intent_at"], row["proposal_id"]) == ("failed", "acme/widgets#1", None, str(gone.id))
    assert cli("apply", "list", "--json", "--state", "drifted").json["applies"] == []
    for name in (row["id"], str(gone.item_id), "acme/widgets#1"):
        shown = cli("apply", "show", name, "--json").json["apply"]
        assert (shown["state"], shown["intent_at"], shown["receipt"]) == ("failed", None, None)
        assert [move["move"] for move in shown["moves"]] == ["approve", "claim", "refuse"]
    page = cli("apply", "show", "acme/widgets#1").stdout
    assert "close acme/widgets#1: failed" in page
    assert f"nothing was sent: {shown['why']}" in page
    assert "target.missing" in shown["why"]
    assert cli("apply", "probe", "acme/widgets#1").exit_code == 4


def test_a_drifted_approval_is_listed_beside_the_applies(shop: Shop, road: Road, workspace: UUID) -> None:
    one = approved(shop, road, workspace)
    file = next(shop.tracker_dir.glob("acme__widgets/1.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"title": "Widget 1 turns after all"}))
    road.run()
    with shop.connect(Role.READ) as conn:
        [row] = applies(conn, workspace, state=None, adapter=None, before=None, limit=10)
        assert (row["state"], row["proposal_id"], row["intent_at"]) == ("drifted", one.id, None)
        assert applies(conn, workspace, state=None, adapter=None, before=row["id"], limit=10) == []
        assert "the target changed in title" in find_apply(conn, workspace, "acme/widgets#1")["why"]


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_names_no_apply_and_no_proposal(shop: Shop, road: Road, workspace: UUID, text: str) -> None:
    approved(shop, road, workspace)
    with shop.connect(Role.READ) as conn:
        with pytest.raises(BadInput, match="empty"):
            find_apply(conn, workspace, text)
        with pytest.raises(BadInput, match="empty"):
            find_proposal(conn, workspace, text)


def test_preview_shows_the_diff_and_changes_nothing(shop: Shop, road: Road, workspace: UUID, cli: Any) -> None:
    approved(shop, road, workspace)
    [file] = shop.tracker_dir.glob("acme__widgets/1.json")
    before = file.read_bytes()
    text = cli("apply", "preview", "acme/widgets#1").stdout
    assert "-state: open" in text
    assert "+state: closed" in text
    assert file.read_bytes() == before


def test_a_probe_makes_the_apply_lane_ask_the_target_before_anything_is_sent(
    shop: Shop, road: Road, admin: Connection, workspace: UUID, unknown: OpenProposal
) -> None:
    with shop.connect(Role.OPERATE) as conn:
        assert probe_again(conn, workspace, find_apply(conn, workspace, str(unknown.item_id)), by="ops") == "apply.tracker"
    road.run()
    # The tracker says that it holds no such action: the approval is gone with the unknown apply, so nothing is sent.
    assert look(admin, "SELECT state FROM applies") == ["failed"]
    assert json.loads(next(shop.tracker_dir.glob("acme__widgets/1.json")).read_text())["state"] == "open"


def test_a_persons_word_that_it_was_applied_closes_the_item_without_sending(
    shop: Shop, road: Road, admin: Connection, unknown: OpenProposal, cli: Any
) -> None:
    assert cli("apply", "probe", "acme/widgets#1", "--is", "applied").exit_code == 2  # what did you see?
    done = cli("apply", "probe", "acme/widgets#1", "--is", "applied", "--reason", "closed by us at 10:02")
    assert (done.exit_code, done.stderr) == (0, "")
    road.run()
    assert look(admin, "SELECT state FROM applies") == ["applied"]
    assert look(admin, "SELECT state FROM proposals") == ["applied"]
    assert road.items(id=str(unknown.item_id))[0]["state"] == "done"
    [receipt] = look(admin, "SELECT convert_from(receipt, 'UTF8') FROM applies")
    me = getpass.getuser()  # nobody is logged in: the person at this terminal
    assert json.loads(receipt) == {"resolved": "applied", "by": me, "reason": "closed by us at 10:02"}
    assert look(admin, "SELECT actor FROM audit WHERE action = 'apply.resolve'") == [me]
    assert json.loads(next(shop.tracker_dir.glob("acme__widgets/1.json")).read_text())["state"] == "open"  # nothing was sent


def test_a_persons_word_that_it_was_not_gives_it_a_fresh_look_and_a_new_approval(
    shop: Shop, road: Road, admin: Connection, workspace: UUID, unknown: OpenProposal
) -> None:
    ops = person(shop, "olga", "operator")
    with shop.connect(Role.OPERATE) as conn:
        one = find_apply(conn, workspace, str(unknown.id))
        resolve(conn, workspace, ops, one, "absent", "it is open", by="olga")
        with pytest.raises(Conflict):
            resolve(conn, workspace, ops, one, "applied", "or was it", by="olga")
    road.run()
    assert look(admin, "SELECT state FROM proposals ORDER BY epoch") == ["failed", "open"]
    assert look(admin, "SELECT state FROM applies") == ["failed"]
    assert road.states()["qa/waiting"] == 1


@pytest.mark.parametrize(("name", "roles", "kind"), [("rita", ("reviewer",), "person"), ("robot", ("operator",), "service")])
def test_only_a_person_who_operates_may_answer_for_an_apply(
    shop: Shop, admin: Connection, workspace: UUID, unknown: OpenProposal, name: str, roles: tuple[str, ...], kind: str
) -> None:
    token = person(shop, name, *roles, kind=kind)
    with shop.connect(Role.OPERATE) as conn, pytest.raises(Denied):
        resolve(conn, workspace, token, find_apply(conn, workspace, str(unknown.id)), "applied", "x", by=name)
    assert look(admin, "SELECT state FROM applies") == ["unknown"]


def test_nobody_answers_for_an_apply_that_a_worker_is_on(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    one = approved(shop, road, workspace)
    lease(admin, one.item_id)
    intend(admin, one.id)
    ops = person(shop, "olga", "operator")
    with shop.connect(Role.OPERATE) as conn:
        found = find_apply(conn, workspace, str(one.id))
        with pytest.raises(Conflict):
            probe_again(conn, workspace, found, by="olga")
        with pytest.raises(Conflict):
            resolve(conn, workspace, ops, found, "absent", "x", by="olga")
    assert look(admin, "SELECT state FROM applies") == ["intent"]


def test_a_buried_apply_is_answered_for_too(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    one = approved(shop, road, workspace)
    lease(admin, one.item_id)
    intend(admin, one.id)
    push(admin, one.item_id, "bury", note="transient: no answer", cause=Cause.TRANSIENT)
    with shop.connect(Role.OPERATE) as conn:
        found = find_apply(conn, workspace, str(one.id))
        resolve(conn, workspace, person(shop, "olga", "operator"), found, "applied", "seen", by="olga")
    road.run()
    assert road.items(id=str(one.item_id))[0]["state"] == "done"
