"""What a kill -9, a full disk and a read-only folder leave behind. Each runs in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.nouns import Action
from workcells.appliers.tracker import Tracker

ROOT = Path(__file__).parents[3]
KEY = "ab" * 32
CLOSE = Action(name="close", target="o/r#1", payload={"state": "closed", "comment": {"body": "Bye."}}, precondition={})
ISSUE = {"title": "It breaks", "body": "x" * 5000, "state": "open", "labels": []}

PRELUDE = f"""
import os, resource, shutil, signal, sys
from pathlib import Path
from contracts.errors import ShopfloorError
from contracts.nouns import Action
from workcells.appliers import SendUnknown, TargetUnavailable
from workcells.appliers.tracker import Tracker
folder = Path(sys.argv[1])
close = Action.model_validate_json({CLOSE.model_dump_json()!r})
def report():
    try:
        print(Tracker(folder).send(close, key={KEY!r}).changed)
    except ShopfloorError as error:
        print(type(error).__name__, error)
def unprivileged():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
"""

# Every system call that Python announces is a place to die: open, mkdir, flock, rename, remove, …
KILL_EVERYWHERE = (
    PRELUDE
    + """
import json
KEY = sys.argv[2]
pristine = (folder / "o__r" / "1.json").read_bytes()
place = 0
while True:
    place += 1
    shutil.rmtree(folder / "o__r")
    (folder / "o__r").mkdir()
    (folder / "o__r" / "1.json").write_bytes(pristine)
    child = os.fork()
    if child == 0:
        seen = 0
        def die(event, args):
            global seen
            if event.split(".")[0] in ("open", "os", "fcntl"):
                seen += 1
                if seen == place:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(die)
        Tracker(folder).send(close, key=KEY)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps([place, status, (folder / "o__r" / "1.json").read_text(), sorted(os.listdir(folder / "o__r"))]))
    if status == 0:
        break
    Tracker(folder).send(close, key=KEY)
    print(json.dumps([place, "again", (folder / "o__r" / "1.json").read_text(), sorted(os.listdir(folder / "o__r"))]))
"""
)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under tmp_path: an unprivileged child must be able to reach it.
    path = Path(tempfile.mkdtemp(prefix="tracker-"))
    (path / "o__r").mkdir()
    (path / "o__r" / "1.json").write_text(json.dumps(ISSUE))
    for each in (path, *path.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
        if os.geteuid() == 0:
            os.chown(each, 65534, 65534)
    yield path
    for each in path.rglob("*"):
        each.chmod(0o755)
    shutil.rmtree(path)


def run(script: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), KEY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "o__r" / "1.json").read_text())
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_anywhere_in_a_send_leaves_all_of_it_or_nothing_and_the_next_send_completes_it(folder: Path) -> None:
    outcomes = [json.loads(line) for line in run(KILL_EVERYWHERE, folder)]

    before = killed_after = 0
    for _place, status, text, names in outcomes:
        issue = json.loads(text)
        whole = issue["state"] == "closed" and [one["key"] for one in issue["comments"]] == [KEY]
        if status == 9:
            assert whole or issue == ISSUE
            before, killed_after = before + (not whole), killed_after + whole
        else:
            assert whole
            assert names == [".locks", "1.json"]
    assert before >= 4
    assert killed_after >= 1


def test_a_kill_before_the_rename_changes_nothing_and_after_it_nothing_is_missing(folder: Path) -> None:
    script = (
        PRELUDE
        + """
seen = []
def die(event, args):
    if event == WHERE or "os.rename" in seen:
        os.kill(os.getpid(), signal.SIGKILL)
    seen.append(event)
sys.addaudithook(die)
report()
"""
    )
    assert run(script.replace("WHERE", "'os.rename'"), folder) == []
    assert document(folder) == ISSUE
    assert Tracker(folder).probe(CLOSE, key=KEY, seconds_since_sent=0) == "absent"

    assert run(script.replace("WHERE", "'none'"), folder) == []
    assert document(folder)["state"] == "closed"
    assert Tracker(folder).probe(CLOSE, key=KEY, seconds_since_sent=0) == "applied"
    assert not Tracker(folder).send(CLOSE, key=KEY).changed
    assert len(document(folder)["comments"]) == 1


def test_a_full_disk_leaves_the_old_file_and_nothing_else(folder: Path) -> None:
    (line,) = run(PRELUDE + "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\nreport()", folder)
    assert line.startswith("TargetUnavailable ")
    assert "nothing was changed" in line
    assert document(folder) == ISSUE
    assert sorted(path.name for path in (folder / "o__r").iterdir()) == [".locks", "1.json"]


def test_a_folder_that_cannot_be_written_is_unavailable_and_can_still_be_observed(folder: Path) -> None:
    (folder / "o__r").chmod(0o555)
    script = PRELUDE + "unprivileged()\nreport()\nprint(Tracker(folder).observe('o/r#1', ['state']))"
    refused, observed = run(script, folder)
    assert refused.startswith("TargetUnavailable ")
    assert observed == "{'state': 'open'}"
    assert document(folder) == ISSUE


def test_a_change_that_may_not_survive_a_power_cut_is_unknown_and_the_probe_settles_it(folder: Path) -> None:
    # A folder that can be entered and written, but not opened: the rename works, the sync of its names does not.
    (folder / "o__r").chmod(0o333)
    (line,) = run(PRELUDE + "unprivileged()\nreport()", folder)
    assert line.startswith("SendUnknown ")
    assert Tracker(folder).probe(CLOSE, key=KEY, seconds_since_sent=0) == "applied"


@pytest.mark.races
def test_several_processes_at_one_issue_lose_no_comment(folder: Path) -> None:
    script = (
        PRELUDE
        + """
mine = int(sys.argv[2])
for number in range(20):
    comment = Action(name="comment", target="o/r#1", payload={"body": "x"}, precondition={})
    Tracker(folder).send(comment, key=f"{mine * 100 + number:064x}")
"""
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(folder), str(mine)], cwd=ROOT) for mine in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    keys = [one["key"] for one in document(folder)["comments"]]
    assert sorted(keys) == [f"{mine * 100 + number:064x}" for mine in range(3) for number in range(20)]
