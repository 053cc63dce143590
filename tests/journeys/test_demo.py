"""The main job as a newcomer meets it: one command, real services, real worker processes, a data folder of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.in_process import Result, issue, merged

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "console" / "samples" / "tracker.jsonl"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`shopfloor …` on a data folder that no other test uses; everything is stopped afterwards."""
    folder = tmp_path_factory.mktemp("demo") / "data"

    def call(*arguments: str, timeout: float = 120, workspace: str = "demo") -> Result:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
        environment |= {
            "SHOPFLOOR_DATA_DIR": str(folder),
            "SHOPFLOOR_WORKSPACE": workspace,
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "console", *arguments], capture_output=True, text=True, env=environment, timeout=timeout, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    yield call
    call("demo", "--reset", "--yes")


def test_the_demo_accounts_for_every_row_and_applies_what_was_approved(run: Run) -> None:
    rows = len(SAMPLE.read_text(encoding="utf-8").splitlines())

    first = run("demo", "--complete", "--json")

    assert first.exit_code == 0, first.stderr
    done = first.json
    assert done["schema_version"] == 1
    assert done["rows"] == rows == done["accepted"] + done["rejected"] + done["duplicate"]
    assert done["ends"] == {"done": rows}, "every order in exactly one end"
    assert set(done["proposals"]) == {"applied"}
    assert done["proposals"]["applied"] >= 20

    again = run("demo", "--complete", "--json").json
    assert (again["accepted"], again["duplicate"]) == (0, rows)
    assert (again["ends"], again["proposals"]) == (done["ends"], done["proposals"])


def test_after_it_every_invariant_holds(run: Run) -> None:
    strict = run("doctor", "--strict")
    assert strict.exit_code == 0, strict.stdout + strict.stderr


def test_what_was_applied_is_what_the_tracker_shows(run: Run) -> None:
    listed = run("apply", "list", "--json", "--limit", "500").json
    applied = [row for row in listed["applies"] if row["state"] == "applied"]
    assert len(applied) >= 20
    tracker = run("settings", "--json")
    assert tracker.exit_code == 0
    folder = next(Path(row["value"]) for row in tracker.json["settings"] if row["name"] == "SHOPFLOOR_DATA_DIR") / "tracker" / "demo"
    files = {f"{path.parent.name.replace('__', '/')}#{path.stem}": json.loads(path.read_text()) for path in folder.glob("*/*.json")}
    for row in applied:
        if row["action"] == "close":
            assert files[row["target"]]["state"] == "closed", row


def test_the_screen_ends_with_commands_that_work_as_they_are_printed(run: Run) -> None:
    shown = run("demo", workspace="main")
    assert shown.exit_code == 0
    assert "shf_" not in shown.stdout, "a live token is on the screen"
    typed = [line.strip() for line in shown.stdout.partition("\nNext\n")[2].splitlines() if line.strip()]
    assert [line.partition("#")[0].strip() for line in typed] == [
        "SHOPFLOOR_WORKSPACE=demo shopfloor status",
        "SHOPFLOOR_WORKSPACE=demo shopfloor review inbox",
        "SHOPFLOOR_WORKSPACE=demo shopfloor review next",
        "shopfloor down",
    ]
    assert run("status").exit_code == 0
    assert run("review", "inbox").exit_code == 0


def test_the_demo_touches_nothing_of_anybody_elses_work(run: Run, tmp_path: Path) -> None:
    floor = tmp_path / "floor.yaml"
    floor.write_text((ROOT / "pipeline" / "floors" / "built_in.yaml").read_text().replace("priority: 5", "priority: 6"))
    assert run("up", "--floor", str(floor), workspace="main").exit_code == 0
    sample = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in [issue(1), merged(1001, fixes=1), *sample]), encoding="utf-8")
    taken = run("intake", str(mine), "--flow", "issue-sweep", "--as-of", "2026-09-01T00:00:00Z", "--wait", workspace="main")
    assert taken.exit_code == 0, taken.stderr
    folder = next(Path(row["value"]) for row in run("settings", "--json").json["settings"] if row["name"] == "SHOPFLOOR_DATA_DIR")

    def everything() -> tuple[object, ...]:
        own = [path for path in (folder / "tracker").rglob("*") if "demo" not in path.relative_to(folder / "tracker").parts]
        return (
            run("review", "inbox", "--json", workspace="main").json["proposals"],
            run("floor", "show", "--json", workspace="main").json,
            run("token", "list", "--json", workspace="main").json["tokens"],
            run("apply", "list", "--json", workspace="main").json["applies"],
            sorted(map(str, own)),
        )

    before = everything()
    assert len(before[0]) >= 20
    done = run("demo", "--complete", "--json", workspace="main")
    assert (done.exit_code, done.json["refused"]) == (0, []), done.stderr
    assert everything() == before


def test_a_reset_that_nobody_confirmed_removes_nothing(run: Run) -> None:
    refused = run("demo", "--reset")
    assert (refused.exit_code, "say --yes" in refused.stderr) == (2, True), refused.stderr
    assert run("status", "--json").exit_code == 0


def test_a_file_that_is_not_there_is_refused_before_anything_starts(run: Run) -> None:
    refused = run("demo", "--input", "/no/such/file.jsonl")
    assert refused.exit_code == 2
    assert "/no/such/file.jsonl" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_reset_removes_the_data_folder_and_nothing_else(run: Run, tmp_path: Path) -> None:
    gone = run("demo", "--reset", "--yes", "--json")
    assert gone.exit_code == 0, gone.stderr
    assert not Path(gone.json["data_dir"]).exists()
