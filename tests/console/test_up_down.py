"""`up` and `down`, one right after the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from contracts.lifecycle import Role
from pipeline.crew.crew import Crew
from pipeline.crew.crew_file import CrewReport, only_one, report, running
from pipeline.crew.separation import Separation
from pipeline.floors.publish import BUILT_IN_FLOOR
from pipeline.startup.compose import Shop
from queues.embedded import inspect
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def test_down_finds_the_crew_that_up_has_just_started(cli: Any, shop: Shop) -> None:
    up = cli("up", "--json", env={"SHOPFLOOR_WORKERS": "1"})
    try:
        crew = running(shop)
        assert (up.exit_code, crew is not None and crew.pid) == (0, up.json["pid"])
        assert cli("up", "--json").json["pid"] == up.json["pid"], "a second one joins the first"
    finally:
        down = cli("down", "--workers-only", "--json")
    assert down.json == {"schema_version": 1, "crew": True, "services": False}
    assert running(shop) is None


def test_up_keeps_as_many_workers_as_it_is_asked_for_and_says_what_it_found(cli: Any, shop: Shop, tmp_path: Path) -> None:
    first = cli("up", "--json", "--workers", "1").json
    try:
        assert (first["workers"], first["posts"], first["not_ready"]) == (1, ["propose-1", "apply", "sweeper"], [])
        assert first["floor"]["changed"] is False
        more = cli("up", env={"SHOPFLOOR_WORKERS": "2"})
        assert more.stdout.startswith("up: propose-1, propose-2, apply, sweeper (crew "), more.stdout
        with shop.connect(Role.AUDIT) as conn:
            alive = conn.execute("SELECT count(*) FROM workers WHERE stopped_at IS NULL AND 'route' = ANY (lanes)").fetchone()
        assert alive == (2,), "it has waited for them to register"

        frozen = next(one["pid"] for one in report(shop).members if one["name"] == "propose-2")
        os.kill(frozen, signal.SIGSTOP)
        found = cli("up")
        os.kill(frozen, signal.SIGCONT)
        assert (found.exit_code, "not ready: propose-2" in found.stdout, "propose-2 is frozen" in found.stdout) == (7, True, True)
        fewer = cli("up", "--json", "--workers", "1", "--floor", str(floor_of(tmp_path))).json
        assert (fewer["posts"], fewer["floor"]["changed"]) == (["propose-1", "apply", "sweeper"], True)

        replaced = {one["name"]: one["pid"] for one in report(shop).members}
        wait_until(lambda: served_by(shop, "cell.reference") == served_by(shop, "apply.sink") == 1)
        now = {one["name"]: one["pid"] for one in report(shop).members}
        assert now["sweeper"] == replaced["sweeper"]
        wait_until(lambda: {one["pid"] for one in report(shop).members}.isdisjoint([replaced["propose-1"], replaced["apply"]]))

        doctor = cli("doctor", "--json")
        assert doctor.exit_code == 0, doctor.stdout
        for process in (psutil.Process(report(shop).pid), *psutil.Process(report(shop).pid).children()):
            process.kill()
        killed = cli("doctor", "--json")
        signs = {one["name"]: one for one in killed.json["checks"]}
        assert (killed.exit_code, signs["crew"]["status"], signs["crew"]["hint"]) == (1, "failure", "shopfloor up")
        assert signs["propose lanes"]["said"].startswith("no live worker serves"), signs["propose lanes"]
        assert "was killed" in cli("status").stdout
    finally:
        cli("down", "--workers-only")
    assert report(shop) == CrewReport()


FLOW = """
  more:
    pod: maintainers
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: reference}
    applier: sink
"""


def floor_of(folder: Path) -> Path:
    """Write the built-in floor with one flow more, for a cell and an applier of its own, and return the file."""
    path = folder / "floor.yaml"
    path.write_text(BUILT_IN_FLOOR.read_text(encoding="utf-8").rstrip() + FLOW, encoding="utf-8")
    return path


def served_by(shop: Shop, lane: str) -> int:
    with shop.connect(Role.AUDIT) as conn:
        row = conn.execute("SELECT count(*) FROM workers WHERE stopped_at IS NULL AND %s = ANY (lanes)", [lane]).fetchone()
    return int(row[0]) if row else 0


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # short, and open to the servers' own user
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def environment_for(folder: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")} | {
        "SHOPFLOOR_DATA_DIR": str(folder / "data"), "SHOPFLOOR_WORKERS": "1", "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
    }  # fmt: skip


def left_in(folder: Path) -> list[list[str]]:
    """Return the command lines of the processes that still name a folder."""
    running = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [words for words in running if str(folder) in " ".join(words)]


def test_down_stops_the_rest_when_the_database_is_gone(folder: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "console", *words],
            env=environment_for(folder),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    try:
        up = run("up")
        assert up.returncode == 0
        assert up.stdout.startswith("floor: the built-in floor\n")
        servers = {server.name: server.pid for server in inspect(folder / "data").servers}
        postgres = psutil.Process(servers["postgres"])
        postgres.kill()
        postgres.wait(10)
    finally:
        down = run("down", "--json")
    assert json.loads(down.stdout) == {"schema_version": 1, "crew": True, "services": True}
    assert left_in(folder) == []


def test_in_the_foreground_it_says_what_happens_and_stops_what_it_has_started(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "console", "up", "--foreground"],
        env=environment_for(folder), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    # A line that is not the expected one ends the test, not the time that the whole run may take.
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    with process.stdout as output:
        for line in output:
            lines.append(line.rstrip())
            if line.startswith("ready: "):
                next(child for child in psutil.Process(process.pid).children() if "propose" in child.cmdline()).kill()
            if line.startswith("propose-1 ended: signal 9"):
                os.kill(process.pid, signal.SIGINT)
    watchdog.cancel()
    assert process.wait(10) == 0, lines
    assert lines[0] == "floor: the built-in floor"
    assert [line.partition(":")[0] for line in lines[1:-3]] == [
        f"starting the workers (logs in {folder}/data/log); Ctrl-C stops them", "ready", "propose-1 ended",
    ]  # fmt: skip
    assert lines[-3].startswith("stopping ")
    assert lines[-2:] == ["the workers have stopped", "PostgreSQL and Valkey have stopped"]
    assert left_in(folder) == []


def test_a_post_that_keeps_ending_is_told_with_where_it_says_why(tmp_path: Path, shop: Shop) -> None:
    crew = Crew({"propose-1": ["false"]}, log_dir=tmp_path, separation=Separation(shop.settings))
    crew.start()

    def told() -> list[str]:
        crew.check()
        return crew.problems()

    wait_until(told)
    assert crew.problems() == [f"propose-1 ended 2 times soon after its start; see the end of {tmp_path}/propose-1.log"]
    crew.stop()


def test_a_failpoint_that_is_none_is_refused_before_anything_starts(cli: Any) -> None:
    for command in ("up", "status"):
        refused = cli(command, env={"SHOPFLOOR_FAIL": "nope:kill"})
        assert (refused.exit_code, "SHOPFLOOR_FAIL: expected" in refused.stderr) == (2, True), refused.stderr


def test_a_crew_that_is_just_writing_of_itself_is_not_taken_for_none(shop: Shop) -> None:
    with only_one(shop) as record:
        later = threading.Timer(0.3, record)
        later.start()
        found = running(shop)
        later.join()
    assert found is not None
    assert found.pid == os.getpid()


def test_a_crew_that_writes_again_how_its_members_do_is_never_taken_for_none(shop: Shop) -> None:
    done = threading.Event()
    with only_one(shop) as record:
        record(unseparated=[])

        def keep_writing() -> None:
            while not done.is_set():
                record(unseparated=[], members=[])

        writing = threading.Thread(target=keep_writing)
        writing.start()
        seen = {report(shop).pid for _ in range(2000)}
        done.set()
        writing.join()
    assert seen == {os.getpid()}
    assert report(shop) == CrewReport()
