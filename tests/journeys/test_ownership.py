"""A data folder of somebody else: root, whom no mode keeps out, starts, stops and writes nothing there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.in_process import issue

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")

ROOT = Path(__file__).parents[2]
OWNER = 60850
CREW = """
import fcntl, json, sys, psutil, signal
lock = open(sys.argv[1] + ".lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX)
me = psutil.Process()
with open(sys.argv[1] + ".json", "w") as file:
    json.dump({"pid": me.pid, "started": me.create_time(), "unseparated": []}, file)
print("holds", flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder of another user, with a crew that works on it."""
    home = tmp_path / "data"
    (home / "run").mkdir(parents=True)
    (home / "shopfloor.lock").touch()
    (home / "shopfloor.json").write_text(json.dumps({"layout": 1, "postgres_major": 18}))
    crew = subprocess.Popen([sys.executable, "-c", CREW, str(home / "run" / "crew-shopfloor")], stdout=subprocess.PIPE, text=True)
    assert crew.stdout is not None
    assert crew.stdout.readline() == "holds\n"
    for path in (home, *home.rglob("*")):
        os.chown(path, OWNER, OWNER)
    yield home
    crew.kill()
    crew.wait()
    crew.stdout.close()


def everything_in(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {str(path): (path.stat().st_uid, path.stat().st_mtime_ns, path.stat().st_size) for path in (folder, *folder.rglob("*"))}


def test_every_verb_that_starts_stops_or_writes_refuses_the_folder_of_another_user_before_it_acts(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(issue(1)) + "\n")
    crew = psutil.Process(json.loads((folder / "run" / "crew-shopfloor.json").read_text())["pid"])
    before, environment = everything_in(folder), {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
    verbs = (
        ["up"], ["up", "--foreground"], ["down"], ["demo"], ["demo", "--reset"], ["intake", str(rows), "--flow", "issue-sweep"],
        ["worker"], ["worker", "--lanes", "apply"], ["sweeper", "--once"], ["db", "migrate"], ["pause", "all", "--why", "test"],
        ["review", "approve", "x"],
    )  # fmt: skip
    running = [
        (
            verb,
            subprocess.Popen(
                [sys.executable, "-P", "-m", "console", *verb], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=environment | {"SHOPFLOOR_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
            ),
        )
        for verb in verbs
    ]  # fmt: skip
    for verb, process in running:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, f"belongs to user {OWNER}, this is user 0" in output) == (2, True), f"{verb}: {output}"
        assert f"run as user {OWNER}" in output
    assert crew.status() != psutil.STATUS_ZOMBIE
    assert everything_in(folder) == before


def test_a_screen_may_still_be_read(folder: Path, tmp_path: Path) -> None:
    """Reading leaves no file behind; that nothing runs there is what it finds."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "console", "status"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "SHOPFLOOR_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, "nothing runs in" in done.stderr) == (6, True), done.stderr
