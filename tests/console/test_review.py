"""The reviewer's commands: see exactly what will run, then decide, one or a group."""

import hashlib
import json
import re
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from console.commands.deciding import _how_to_split
from contracts.canonical import canonical
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue, merged
from tests.reviews import LATER, fill_tracker, look, open_proposals, person, propose


def test_the_inbox_groups_equal_proposals_with_the_surest_first(shop: Shop, road: Road, cli: Any) -> None:
    propose(road, 3)
    road.take_in([issue(50, title="No widget anywhere", labels=[{"name": "wontfix"}])], as_of=LATER)
    road.run()

    seen = cli("review", "inbox", "--json")
    assert seen.exit_code == 0
    assert [(group["finding"], group["count"]) for group in seen.json["groups"]] == [("resolved_by_merged_pr", 3), ("labelled_but_open", 1)]
    assert seen.json["groups"][0]["payload"] == "{comment: {body: …}, state: closed, state_reason: completed}"
    confidences = [one["confidence"] for one in seen.json["proposals"]]
    assert confidences == sorted(confidences, reverse=True)

    text = cli("review", "inbox", "--finding", "resolved_by_merged_pr", "--limit", "2").stdout
    assert "3 × resolved_by_merged_pr → close" in text
    assert "1 more: --limit" in text
    assert "labelled_but_open" not in text


def test_show_prints_the_very_bytes_that_an_approval_binds(shop: Shop, road: Road, cli: Any) -> None:
    [one] = propose(road, 1)
    raw = cli("review", "show", str(one.id), "--raw").stdout
    assert hashlib.sha256(raw.encode()).digest() == one.sha256
    assert canonical(json.loads(raw)).decode() == raw

    page = cli("review", "show", "acme/widgets#1").stdout
    assert f"sha256 {one.sha256.hex()}" in page
    assert "+state: closed" in page  # the diff against the tracker as it is
    assert "nothing that the decision rests on has changed" in page
    assert "acme/widgets#1001 body[0:8]: “Fixes #1”" in page
    assert "a reviewer approves (tier single): 0 so far" in page
    assert "intake (submitted the work), cell:issue_review (wrote it)" in page
    assert f"shopfloor review approve {one.id} --hash {one.sha256.hex()}" in page


def test_show_says_which_field_of_the_target_has_changed_since(shop: Shop, road: Road, cli: Any) -> None:
    [one] = propose(road, 1)
    [file] = shop.tracker_dir.glob("acme__widgets/1.json")
    issue_now = json.loads(file.read_text()) | {"title": "Widget 1 turns\u202e after all"}
    file.write_text(json.dumps(issue_now))
    page = cli("review", "show", str(one.item_id)).stdout
    assert "! title changed since the decision" in page
    assert "\u202e" not in page
    assert "\\u202e" in page


def test_what_people_wrote_cannot_steer_the_reviewers_screen(road: Road, cli: Any) -> None:
    nasty = "Widget \x1b[2J\u202e\u200b turns"
    rows = [issue(1, title=nasty), merged(2, fixes=1)]
    fill_tracker(road.shop.tracker_dir, rows)
    road.take_in(rows, as_of=LATER)
    road.run()
    for arguments in (("review", "inbox"), ("review", "next")):
        seen = cli(*arguments)
        assert seen.exit_code == 0
        assert "Widget" in seen.stdout
        assert not set("\x1b\u202e\u200b") & set(seen.stdout)


def test_approving_by_subject_decides_applies_and_empties_the_inbox(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    propose(road, 1)
    seen = cli("review", "approve", "acme/widgets#1", "--reason", "checked")
    assert (seen.exit_code, seen.stderr) == (0, "")
    assert "approved" in seen.stdout
    road.run()
    assert look(admin, "SELECT state FROM applies") == ["applied"]
    assert cli("review", "inbox").stdout == "nothing waits for a reviewer\n"
    again = cli("review", "approve", "acme/widgets#1")
    assert again.exit_code == 4


def test_a_hash_that_is_not_the_one_shown_decides_nothing(shop: Shop, road: Road, cli: Any) -> None:
    [one] = propose(road, 1)
    stale = cli("review", "approve", str(one.id), "--hash", "ab" * 32)
    assert stale.exit_code == 4
    assert one.sha256.hex() in stale.stderr
    assert open_proposals(shop) == [one]
    assert cli("review", "approve", str(one.id), "--hash", one.sha256.hex()).exit_code == 0


def test_a_group_is_decided_only_with_yes_and_a_dry_run_decides_nothing(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    propose(road, 3)
    group = ("review", "approve", "--finding", "resolved_by_merged_pr")
    refused = cli(*group)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    looked = cli(*group, "--dry-run", "--json")
    assert [row["outcome"] for row in looked.json["results"]] == ["would be approved"] * 3
    assert len(open_proposals(shop)) == 3
    done = cli(*group, "--yes", "--json")
    assert (done.exit_code, done.json["done"]) == (0, 3)
    assert look(admin, "SELECT count(*) FROM decisions") == [3]


def test_a_finding_that_asks_for_different_things_is_not_decided_as_one(shop: Shop, road: Road, cli: Any) -> None:
    rows = [issue(1, labels=[{"name": "wontfix"}]), issue(2, title="A duplicate of something", labels=[{"name": "duplicate"}])]
    road.take_in(rows, as_of=LATER)
    road.run()
    assert len(open_proposals(shop)) == 2
    mixed = cli("review", "reject", "--finding", "labelled_but_open", "--reason", "no", "--yes")
    assert mixed.exit_code == 2
    assert "2 different things" in mixed.stderr
    assert len(open_proposals(shop)) == 2
    # Both close: an action cannot tell them apart, so the remedy does not name it, and what it names works.
    assert "--action" not in mixed.stderr
    [remedy] = re.findall(r"shopfloor (review inbox --finding \S+ --jsonl)", mixed.stderr)
    listed = [json.loads(line) for line in cli(*remedy.split()).stdout.splitlines()]
    assert sorted(row["group"] for row in listed) == [1, 2]
    chosen = next(row["id"] for row in listed if row["group"] == 1)
    assert cli("review", "reject", chosen, "--reason", "not this one").exit_code == 0
    assert len(open_proposals(shop)) == 1


def test_the_remedy_for_a_mixed_finding_names_the_actions_that_split_it() -> None:
    groups = [[SimpleNamespace(finding="stale", action=action)] for action in ("close", "label", "label")]
    assert _how_to_split(groups[:2]) == "decide one with --action close or --action label"
    assert _how_to_split(groups).startswith("decide one with --action close, or give the ids of one group from: shopfloor review inbox")


def test_some_of_many_end_with_a_result_each_and_exit_7(shop: Shop, road: Road, cli: Any) -> None:
    first, second = propose(road, 2)
    assert cli("review", "reject", str(first.id), "--reason", "no").exit_code == 0
    lines = f"{first.id}\n{second.id}\n{uuid4()}\n"
    seen = cli("review", "approve", "-", "--yes", "--jsonl", input=lines)
    assert seen.exit_code == 7
    rows = {row["id"]: row for row in map(json.loads, seen.stdout.splitlines())}
    assert rows[str(second.id)]["outcome"] == "approved"
    assert rows[str(first.id)]["code"] == "review.stale"
    assert sorted(row["code"] for row in rows.values()) == ["", "not_found", "review.stale"]


def test_rework_needs_a_reason_and_hands_it_to_the_cell(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    assert cli("review", "rework", str(one.id)).exit_code == 2
    assert cli("review", "rework", str(one.id), "--reason", "quote the changelog").exit_code == 0
    road.run()
    assert look(admin, "SELECT message FROM findings WHERE code = 'review.returned'") == ["quote the changelog"]
    assert look(admin, "SELECT state FROM proposals ORDER BY epoch") == ["returned", "open"]


def test_a_round_with_the_same_artifact_shows_its_evidence_once(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    [one] = propose(road, 1)
    cited = [piece["claim"] for piece in cli("review", "show", str(one.id), "--json").json["proposal"]["evidence"]]
    assert cited
    assert cli("review", "rework", str(one.id), "--reason", "look once more").exit_code == 0
    road.run()
    [again] = open_proposals(shop)
    # The cell gave the very same value a second time: two artifacts of one content.
    kind = look(admin, "SELECT count(*), count(DISTINCT sha256) FROM artifacts WHERE item_id = %s AND kind <> 'proposal@1'", one.item_id)
    assert kind == [(2, 1)]
    for proposal in (one, again):
        seen = cli("review", "show", str(proposal.id), "--json").json["proposal"]["evidence"]
        assert [piece["claim"] for piece in seen] == cited
    assert [piece["claim"] for piece in cli("show", str(one.item_id), "--json").json["evidence"]] == cited


def test_next_passes_over_what_the_reviewer_may_not_decide(shop: Shop, road: Road, cli: Any) -> None:
    propose(road, 1, submitter="ada")
    ada, bob = person(shop, "ada", "reviewer"), person(shop, "bob", "reviewer")
    assert cli("review", "next", "--json", env={"SHOPFLOOR_TOKEN": ada}).json == {"schema_version": 1, "proposal": None}
    assert cli("review", "next", "--json", env={"SHOPFLOOR_TOKEN": bob}).json["proposal"]["target"] == "acme/widgets#1"
    own = cli("review", "approve", "acme/widgets#1", env={"SHOPFLOOR_TOKEN": ada})
    assert own.exit_code == 5
    assert "another person has to decide" in own.stderr


def test_a_proposal_can_be_named_by_the_beginning_of_its_id(shop: Shop, road: Road, cli: Any) -> None:
    [one] = propose(road, 1)
    assert cli("review", "show", str(one.id)[:13], "--json").json["proposal"]["id"] == str(one.id)
    assert cli("review", "show", "01").exit_code == 3
    assert cli("review", "show", "ffffffffffff").exit_code == 3
