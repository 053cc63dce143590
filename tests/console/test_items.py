"""items, show, why, history: found by what people type, bounded, and harmless to look at."""

import csv
import io
import json
from typing import Any

import pytest
from psycopg.rows import dict_row
from contracts.lifecycle import ARCHIVED, Role, State
from tests.in_process import Road, issue, merged

FIXED = [issue(1), merged(2, fixes=1), issue(3, updated_at="2025-03-01T00:00:00Z")]


def test_items_are_filtered_by_where_they_stand_and_why(road: Road, cli: Any) -> None:
    road.take_in(FIXED)
    road.run()
    road.take_in([issue(4)])
    waiting = cli("items", "--reason", "approval", "--json").json["items"]
    assert [(one["subject"], one["stage"], one["cell"]) for one in waiting] == [("acme/widgets#1", "qa", "issue_review")]
    ready = cli("items", "--lane", "route", "--state", "ready", "--jsonl").stdout.splitlines()
    assert [json.loads(line)["subject"] for line in ready] == ["acme/widgets#4"]
    ended = list(csv.DictReader(io.StringIO(cli("items", "--archived", "--csv").stdout)))
    assert [(one["subject"], one["finding"]) for one in ended] == [
        ("acme/widgets#3", "nothing_found"), ("acme/widgets#2", "context"),
    ]  # fmt: skip
    assert cli("items", "--state", "done", "--json").json["items"], "an ended state needs no --archived"
    one = cli("items", "--order", "acme/widgets#1", "--batch", "latest", "--json").json["items"]
    assert one == [], "the latest batch holds #4 alone"


def test_a_page_ends_in_the_cursor_that_goes_on(road: Road, cli: Any) -> None:
    road.take_in([issue(number) for number in range(1, 6)])
    first = cli("items", "--limit", "3", "--json").json
    rest = cli("items", "--limit", "3", "--cursor", first["next_cursor"], "--json").json
    assert rest["next_cursor"] is None
    subjects = [one["subject"] for one in first["items"] + rest["items"]]
    assert sorted(subjects) == [f"acme/widgets#{number}" for number in range(1, 6)]
    text = cli("items", "--limit", "3")
    assert f"--cursor {first['next_cursor']}" in text.stderr


def test_a_rule_over_the_payload_says_how_many_it_looked_at(road: Road, cli: Any) -> None:
    road.take_in([issue(number, title=f"crash {number}") for number in range(1, 6)])
    seen = cli("items", "--where", "item.number > 3 && item.title.contains('crash')", "--json")
    assert {one["subject"] for one in seen.json["items"]} == {"acme/widgets#4", "acme/widgets#5"}
    assert "looked at 5 payloads" in seen.stderr
    none = cli("items", "--where", "item.nothing == 1")
    assert "5 of them had no answer" in none.stderr
    assert "no items match" in none.stdout
    wrong = cli("items", "--where", "item.(")
    assert (wrong.exit_code, "--where" in wrong.stderr) == (2, True)


def test_names_that_are_none_are_refused_with_those_that_are(cli: Any) -> None:
    for option, name, known in (("--reason", "bored", "approval"), ("--state", "sleepy", "leased")):
        seen = cli("items", option, name)
        assert seen.exit_code == 2
        assert known in seen.stderr


def test_why_answers_for_a_subject_an_item_and_an_order(road: Road, cli: Any) -> None:
    road.take_in(FIXED)
    road.run()
    said = cli("why", "acme/widgets#1", "--json").json
    assert (said["reason"], said["words"]) == (
        "approval", "needs 1 approval, has 0: 'close acme/widgets#1' (tier single)",
    )  # fmt: skip
    assert cli("why", said["item_id"], "--json").json["item_id"] == said["item_id"]
    text = cli("why", said["order_id"])
    assert text.exit_code == 0
    assert "qa/waiting, reason approval, since " in text.stdout
    assert "shopfloor review show " in text.stdout
    missing = cli("why", "acme/widgets#99")
    assert missing.exit_code == 3
    assert "Traceback" not in missing.stderr


def test_show_tells_everything_with_foreign_text_made_harmless(road: Road, cli: Any) -> None:
    road.take_in([issue(1, title="\x1b[31mred\u202eder", labels=[]), *FIXED[1:]])
    road.run()
    seen = cli("show", "acme/widgets#1")
    assert seen.exit_code == 0
    assert "\x1b" not in seen.stdout
    assert "\u202e" not in seen.stdout
    assert "\\x1b[31mred\\u202eder" in seen.stdout
    for part in ("order", "payload", "timeline", "attempts", "artifacts", "evidence", "verdict: passed", "proposal "):
        assert f"\n{part}" in seen.stdout, part
    assert "“Fixes #1”" in seen.stdout, "evidence stands beside its claim"
    whole = cli("show", "acme/widgets#1", "--json").json
    assert whole["payload"]["number"] == 1
    assert whole["why"]["reason"] == "approval"
    assert whole["proposals"][0]["clearance"] == "open"


def test_history_is_the_table_of_moves(road: Road, cli: Any, connect: Any) -> None:
    road.take_in(FIXED)
    road.run()
    moves = cli("history", "acme/widgets#3", "--json").json["moves"]
    conn = connect(Role.AUDIT)
    with conn.cursor(row_factory=dict_row) as cursor:
        stored = cursor.execute(
            "SELECT no, move FROM inspect.moves WHERE item_id = %s ORDER BY no",
            [cli("why", "acme/widgets#3", "--json").json["item_id"]],
        ).fetchall()
    assert [(one["no"], one["move"]) for one in moves] == [(one["no"], one["move"]) for one in stored]
    assert State(moves[-1]["to_state"]) in ARCHIVED
    text = cli("history", "acme/widgets#3").stdout.splitlines()
    assert text[0].split()[:4] == ["NO", "AT", "GAP", "MOVE"]
    assert "none/none" in text[1]


@pytest.mark.parametrize("option", ["--lane", "--flow", "--stage", "--batch", "--order", "--reason", "--where"])
def test_a_filter_that_is_empty_is_refused_and_lists_nothing(road: Road, cli: Any, option: str) -> None:
    road.take_in([issue(1)])
    refused = cli("items", option, "")
    assert (refused.exit_code, refused.stdout) == (2, ""), refused.stderr
