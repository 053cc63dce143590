"""`shopfloor floor`: check a file, put it in force, see what was."""

from pathlib import Path
from typing import Any

import pytest
from contracts.lifecycle import Role
from pipeline.floors.publish import BUILT_IN_FLOOR, floor_in_force
from pipeline.startup.compose import Shop
from pipeline.startup.setup import choose_floor, ensure_workspace, load_registry, set_up
from queues.database import Connection

GOOD = BUILT_IN_FLOOR.read_text(encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "floor.yaml"
    made.write_text(GOOD, encoding="utf-8")
    return made


def in_force(shop: Shop) -> Any:
    with shop.connect(Role.READ) as conn:
        return floor_in_force(conn, shop.workspace_id(conn)).floor


def test_a_good_file_is_checked_without_a_database(cli: Any, file: Path) -> None:
    done = cli("floor", "check", str(file), "--json", env={"SHOPFLOOR_DATA_DIR": str(file.parent / "nothing-here")})

    assert done.exit_code == 0
    assert done.json["flows"] == ["issue-sweep"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("shape: github_issue", "shape: github_isue", "github_isue"),
        ("cell: issue_review", "cell: issue_revue", "issue_review"),
        ("applier: tracker", "applier: trakcer", "expected one of demo, github, sink, tracker"),
        ("pod: maintainers", "pod: maintainer", "did you mean 'maintainers'?"),
        ("row.state == 'open'", "row.state = 'open'", "not a CEL expression"),
        ("after: intake", "aftr: intake", "aftr"),
        ("cell: issue_review", "cell: reference", "reference proposes record, which applier tracker cannot do"),
    ],
)
def test_a_file_that_cannot_work_is_refused_whole(cli: Any, shop: Shop, file: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    file.write_text(GOOD.replace(before, after), encoding="utf-8")

    done = cli("floor", "apply", str(file))
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert in_force(shop).flows["issue-sweep"].applier == "tracker"


def test_check_and_dry_run_refuse_what_apply_would(cli: Any, file: Path) -> None:
    file.write_text(GOOD.replace("cell: issue_review", "cell: issue_revue"), encoding="utf-8")

    for verb in (["check", str(file)], ["apply", str(file), "--dry-run"]):
        done = cli("floor", *verb)
        assert (done.exit_code, "issue_revue" in done.stderr) == (2, True)


def test_a_file_that_is_not_there_is_refused(cli: Any, tmp_path: Path) -> None:
    done = cli("floor", "check", str(tmp_path / "nowhere.yaml"))

    assert done.exit_code == 2
    assert "cannot be read" in done.stderr


def test_show_prints_a_file_that_is_the_floor_in_force(cli: Any, tmp_path: Path) -> None:
    copy = tmp_path / "floor.yaml"
    copy.write_text(cli("floor", "show").stdout, encoding="utf-8")

    assert cli("floor", "apply", str(copy), "--json").json["changed"] is False


def test_applying_changes_pods_and_lanes_at_once_and_is_audited(cli: Any, shop: Shop, file: Path, admin: Connection) -> None:
    limited = GOOD.replace("draft_approve", "report_only") + "lanes:\n  cell.issue_review: {max_active: 3}\n"
    file.write_text(limited, encoding="utf-8")

    looked = cli("floor", "apply", str(file), "--dry-run")
    assert (looked.exit_code, "-    autonomy: draft_approve" in looked.stdout) == (0, True)
    assert in_force(shop).pods["maintainers"] == "draft_approve"

    done = cli("floor", "apply", str(file), "--json")
    assert (done.exit_code, done.json["changed"]) == (0, True)
    assert in_force(shop).pods["maintainers"] == "report_only"
    assert admin.execute("SELECT autonomy FROM shopfloor.pods").fetchall() == [("report_only",)]
    assert admin.execute("SELECT name, max_active FROM shopfloor.lanes").fetchall() == [("cell.issue_review", 3)]
    assert admin.execute("SELECT object FROM shopfloor.audit WHERE action = 'floor.publish' AND actor <> 'setup'").fetchall() == [
        (done.json["id"],)
    ]


def test_a_lane_that_nobody_serves_yet_is_named(cli: Any, file: Path) -> None:
    second = "\n".join(GOOD.partition("  issue-sweep:")[2].splitlines()[1:])
    file.write_text(GOOD.rstrip() + "\n  mirror:\n" + second.replace("applier: tracker", "applier: github") + "\n", encoding="utf-8")

    done = cli("floor", "apply", str(file))

    assert done.exit_code == 0
    assert "apply.github" in done.stdout


def test_an_applied_floor_outlives_the_next_start(cli: Any, shop: Shop, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(GOOD.replace("draft_approve", "report_only"), encoding="utf-8")
    assert cli("floor", "apply", str(file)).exit_code == 0

    monkeypatch.chdir("/")
    set_up(shop)

    assert in_force(shop).pods["maintainers"] == "report_only"


def test_what_is_in_force_does_not_depend_on_the_folder_of_who_starts_it(shop: Shop, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(GOOD.replace("draft_approve", "full_auto"), encoding="utf-8")
    before = in_force(shop)

    monkeypatch.chdir(file.parent)
    choice = set_up(shop)

    assert (choice.is_new, choice.ignored) == (False, file)
    assert in_force(shop) == before
    with shop.connect(Role.OPERATE) as conn:
        named = choose_floor(conn, shop.workspace_id(conn), load_registry(), named=file)
        assert (named.is_new, named.before, in_force(shop).pods["maintainers"]) == (True, before, "full_auto")
        monkeypatch.chdir("/")
        kept = choose_floor(conn, shop.workspace_id(conn), load_registry(), named=None)
        assert (kept.is_new, kept.ignored, in_force(shop).pods["maintainers"]) == (False, None, "full_auto")
        monkeypatch.chdir(file.parent)
        assert choose_floor(conn, shop.workspace_id(conn), load_registry(), named=None).ignored is None, "it holds the floor in force"


def test_the_first_start_takes_the_nearest_floor_file_and_the_built_in_one_elsewhere(
    shop: Shop, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(GOOD.replace("draft_approve", "full_auto"), encoding="utf-8")
    with shop.connect(Role.OPERATE) as conn:
        monkeypatch.chdir(file.parent)
        near = choose_floor(conn, ensure_workspace(conn, "near"), load_registry(), named=None)
        monkeypatch.chdir("/")
        far = choose_floor(conn, ensure_workspace(conn, "far"), load_registry(), named=None)
    assert (near.source, near.is_new, near.in_force.floor.pods["maintainers"]) == (str(file), True, "full_auto")
    assert (far.source, far.is_new, far.before) == ("the built-in floor", True, None)


def test_history_lists_the_floor_in_force_first_and_show_finds_earlier_ones(cli: Any, file: Path) -> None:
    file.write_text(GOOD.replace("draft_approve", "report_only"), encoding="utf-8")
    cli("floor", "apply", str(file))

    newest, oldest = cli("floor", "history", "--json").json["floors"]
    assert oldest["published_by"] == "setup"
    assert "autonomy: report_only" in cli("floor", "show", newest["sha256"][:12]).stdout
    assert "autonomy: draft_approve" in cli("floor", "show", oldest["id"]).stdout
    assert cli("floor", "show", "0000000000").exit_code == 3
