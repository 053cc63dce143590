"""`up` and `down`, one right after the other."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from pipeline.crew.crew import Crew
from pipeline.crew.crew_file import only_one, running
from pipeline.crew.separation import Separation
from pipeline.startup.compose import Shop
from queues.embedded import inspect

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


def test_down_stops_the_rest_when_the_database_is_gone(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # short, and open to the servers' own user
    folder.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")} | {
        "SHOPFLOOR_DATA_DIR": str(folder / "data"), "SHOPFLOOR_WORKERS": "1", "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "shopfloor-pycache"),
    }  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "console", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    try:
        assert run("up").returncode == 0
        servers = {server.name: server.pid for server in inspect(folder / "data").servers}
        postgres = psutil.Process(servers["postgres"])
        postgres.kill()
        postgres.wait(10)
    finally:
        down = run("down", "--json")
    assert json.loads(down.stdout) == {"schema_version": 1, "crew": True, "services": True}
    left = [process.info for process in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(process.info["cmdline"] or [])]
    assert left == []
    shutil.rmtree(folder)


def test_a_post_that_keeps_ending_is_told_with_where_it_says_why(tmp_path: Path, shop: Shop) -> None:
    crew = Crew({"propose-1": ["false"]}, log_dir=tmp_path, separation=Separation(shop.settings))
    crew.start()
    deadline = time.monotonic() + 30
    while not crew.problems() and time.monotonic() < deadline:
        crew.check()
        time.sleep(0.05)
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
