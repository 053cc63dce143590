"""pause and resume: every scope holds work back at once, says who and why, and lets it go again."""

from typing import Any

import pytest
from queues.database import Connection
from tests.in_process import Road
from tests.item_states import in_the_cells_lane
from tests.reviews import look, person


def test_a_paused_flow_stands_still_until_it_is_resumed(road: Road, admin: Connection, cli: Any) -> None:
    in_the_cells_lane(road, admin, 1)
    assert cli("pause", "flow:issue-sweep", "--why", "release freeze").exit_code == 0
    road.run()
    assert [(row["stage"], row["reason"]) for row in road.items()] == [("workcell", "paused")]
    assert cli("resume", "flow:issue-sweep").exit_code == 0
    road.run()
    assert road.states() == {"archive/done": 1}


def test_the_list_says_who_why_and_until_when(shop: Any, cli: Any) -> None:
    token = person(shop, "grace", "operator")
    assert cli("pause", "pod:maintainers", "--why", "quota", "--until", "2100-01-01T00:00Z", env={"SHOPFLOOR_TOKEN": token}).exit_code == 0
    [row] = cli("pause", "list", "--json").json["pauses"]
    assert (row["scope"], row["actor"], row["why"], row["until"]) == ("pod:maintainers", "grace", "quota", "2100-01-01T00:00:00Z")
    assert cli("resume", row["scope"]).exit_code == 0  # what the list prints is what lifts it


def test_resume_names_what_still_stands(cli: Any) -> None:
    for scope in ("all", "flow:issue-sweep"):
        assert cli("pause", scope, "--why", "x").exit_code == 0
    lifted = cli("resume", "flow:issue-sweep")
    assert "still paused: all" in lifted.stderr
    assert cli("resume", "flow:issue-sweep").exit_code == 3


@pytest.mark.parametrize(
    "arguments", [("pause", "all"), ("pause", "all", "--why", "x", "--until", "soon"), ("pause", "everything", "--why", "x")]
)
def test_what_means_nothing_is_refused(admin: Connection, cli: Any, arguments: tuple[str, ...]) -> None:
    seen = cli(*arguments)
    assert (seen.exit_code, seen.stdout) == (2, "")
    assert look(admin, "SELECT count(*) FROM pauses") == [0]


def test_a_dry_run_pauses_nothing_and_only_operators_pause(shop: Any, admin: Connection, cli: Any) -> None:
    assert cli("pause", "all", "--why", "x", "--dry-run").exit_code == 0
    assert cli("pause", "all", "--why", "x", env={"SHOPFLOOR_TOKEN": person(shop, "ada", "reviewer")}).exit_code == 5
    assert look(admin, "SELECT count(*) FROM pauses") == [0]
