"""status: the board as people, programs and cron see it."""

from typing import Any
from uuid import UUID

from contracts.attempts import Cause
from contracts.lifecycle import Role, State, move
from pipeline.worker.fair_share import FairShare, take
from queues.database import transaction
from queues.mover import Planned, Route, perform
from queues.pauses import pause, scope_of
from tests.in_process import Road, issue

WIDTH = 100


def test_an_empty_factory_says_how_to_begin_and_is_not_stalled(cli: Any) -> None:
    seen = cli("status")
    assert seen.exit_code == 0
    assert "sweeper ?" in seen.stdout, "no sweeper was seen: unknown, which is not zero"
    assert "broker up" in seen.stdout
    assert "shopfloor intake FILE" in seen.stdout
    quiet = cli("status", "--check")
    assert (quiet.exit_code, quiet.stdout) == (0, "")


def test_unserved_work_is_marked_with_what_to_type_and_check_exits_1(road: Road, cli: Any) -> None:
    road.take_in([issue(1), issue(2)])
    seen = cli("status")
    assert seen.exit_code == 0, "without --check the board is not a verdict"
    [row] = [line for line in seen.stdout.splitlines() if line.startswith("! ")]
    assert row.split()[:3] == ["!", "route", "2"]
    assert "no live worker serves it: 2 items are ready  →  shopfloor up" in seen.stdout
    assert all(len(line) <= WIDTH for line in seen.stdout.splitlines())
    assert "\x1b" not in seen.stdout, "colour is for terminals"
    check = cli("status", "--check")
    assert check.exit_code == 1
    assert len(check.stdout.splitlines()) == 1


def test_json_is_one_document_with_every_number(road: Road, cli: Any) -> None:
    road.take_in([issue(1)])
    road.run()
    road.take_in([issue(2)])
    seen = cli("status", "--json").json
    assert (seen["schema_version"], seen["ok"], seen["broker"], seen["sweeper"]) == (1, True, "up", None)
    route = seen["lanes"][0]
    assert (route["lane"], route["ready"], route["finished"], route["workers"]) == ("route", 1, 1, 1)
    assert route["failed_share"] == 0
    assert seen["totals"]["in_queue"] == 1


def test_a_pause_is_shown_with_who_why_and_how_to_lift_it(road: Road, cli: Any, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(1)])
    road.worker()
    conn = connect(Role.OPERATE)
    pause(conn, workspace, scope_of(conn, workspace, "flow:issue-sweep"), why="release\x1b[31m freeze", by="ada")
    seen = cli("status")
    assert "paused   flow:issue-sweep by ada: release\\x1b[31m freeze  →  shopfloor resume flow:issue-sweep" in seen.stdout
    assert "!" not in seen.stdout, "paused work is waiting, not stalled"
    assert cli("status", "--check").exit_code == 0


def test_dead_letters_make_check_fail(road: Road, cli: Any) -> None:
    road.take_in([issue(1)])
    worker = road.worker()
    claim = take(worker.context, FairShare(), worker.id, worker.name, "route", batch=1, seconds=30).claim
    [item] = claim.items
    route = Route((move("bury", claim.stage, State.LEASED),), "route", ("crash: gone",), cause=Cause.CRASH)
    with transaction(worker.context.conn, item.workspace_id) as conn:
        perform(conn, [Planned(item.item_id, item.fence, route)], by="test")
    check = cli("status", "--check")
    assert check.exit_code == 1
    assert "1 dead letter, oldest" in check.stdout
    assert "shopfloor dead list" in check.stdout


def test_without_services_it_says_how_to_start_them(cli: Any, tmp_path: Any) -> None:
    seen = cli("status", env={"SHOPFLOOR_DATA_DIR": str(tmp_path / "nothing")})
    assert seen.exit_code == 6
    assert "shopfloor up" in seen.stderr
    assert "Traceback" not in seen.stderr


def test_help_says_what_the_columns_mean(cli: Any) -> None:
    seen = cli("status", "--help")
    assert seen.exit_code == 0
    assert "HELD is paused" in " ".join(seen.stdout.split())
