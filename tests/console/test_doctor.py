"""doctor: what it looks at, what it says, and how it ends."""

from pathlib import Path
from typing import Any

from pipeline.doctor.invariants import NOT_BUILT, TITLES
from pipeline.failpoints import POINTS
from queues.database import Connection
from tests.in_process import Road, issue


def test_a_factory_without_workers_is_well_but_warned_about(cli: Any) -> None:
    done = cli("doctor", "--json")
    assert done.exit_code == 0, done.stderr
    signs = {one["name"]: one for one in done.json["checks"]}
    assert signs["logins"]["said"] == "all 8 roles log in"
    assert {signs[name]["status"] for name in ("database", "clock", "broker", "store", "tracker")} == {"ok"}
    assert {signs[name]["status"] for name in ("propose lanes", "apply lanes", "sweeper")} == {"warning"}
    assert "cell.issue_review" in signs["propose lanes"]["said"]
    assert signs["cells"]["status"] == "notice"


def test_a_served_lane_is_not_warned_about(cli: Any, road: Road) -> None:
    road.worker()
    signs = {one["name"]: one for one in cli("doctor", "--json").json["checks"]}
    assert signs["propose lanes"]["status"] == "ok"
    assert signs["apply lanes"]["said"] == "no live worker serves apply.tracker"


def test_a_role_that_may_too_much_is_a_failure(cli: Any, admin: Connection) -> None:
    admin.execute("ALTER ROLE shopfloor_read BYPASSRLS")
    try:
        done = cli("doctor")
    finally:
        admin.execute("ALTER ROLE shopfloor_read NOBYPASSRLS")
    assert done.exit_code == 1
    assert "ALTER ROLE shopfloor_read NOSUPERUSER" in done.stdout


def test_nothing_running_ends_with_6_and_what_to_type(cli: Any, tmp_path: Path) -> None:
    done = cli("doctor", env={"SHOPFLOOR_DATA_DIR": str(tmp_path / "nowhere")})
    assert done.exit_code == 6
    assert "shopfloor up" in done.stdout
    assert cli("doctor", "--strict", env={"SHOPFLOOR_DATA_DIR": str(tmp_path / "nowhere")}).exit_code == 6


def test_a_broker_out_of_reach_ends_with_6(cli: Any, tmp_path: Path) -> None:
    done = cli("doctor", env={"SHOPFLOOR_BROKER_URL": f"unix://{tmp_path}/none.sock"})
    assert done.exit_code == 6
    assert "the broker cannot be reached" in done.stdout


def test_strict_ends_with_0_while_all_holds_and_names_what_is_not_checked(cli: Any, road: Road) -> None:
    road.take_in([issue(1)])
    road.run()
    done = cli("doctor", "--strict")
    assert done.exit_code == 0, done.stdout
    assert [line.rpartition(":")[0] for line in done.stdout.splitlines()] == [f"not checked (not built): {number}" for number in NOT_BUILT]
    assert "17 invariants" in done.stderr


def test_strict_ends_with_1_and_a_line_per_violation(cli: Any, road: Road, admin: Connection) -> None:
    road.take_in([issue(1), issue(2)])
    admin.execute("SET session_replication_role = replica; UPDATE shopfloor.queue SET rounds = 7")
    done = cli("doctor", "--strict")
    assert done.exit_code == 1
    assert sum(line.startswith("invariant 14: item ") for line in done.stdout.splitlines()) == 2
    few = cli("doctor", "--strict", "--most", "1").stdout
    assert "invariant 14: and 1 more" in few


def test_strict_json_has_every_invariant(cli: Any, road: Road, admin: Connection) -> None:
    road.take_in([issue(1)])
    admin.execute("SET session_replication_role = replica; UPDATE shopfloor.queue SET fence = 7")
    done = cli("doctor", "--strict", "--json")
    assert done.exit_code == 1
    assert done.json["holds"] is False
    results = {one["number"]: one for one in done.json["invariants"]}
    assert list(results) == list(TITLES)
    assert {number for number, one in results.items() if one["status"] == "vacuous"} == NOT_BUILT.keys()
    assert (results[3]["status"], results[3]["total"]) == ("violated", 1)
    assert "carries fence 7" in results[3]["violations"][0]


def test_every_failpoint_is_listed(cli: Any) -> None:
    assert {one["point"] for one in cli("doctor", "--failpoints", "--json").json["failpoints"]} == POINTS.keys()
