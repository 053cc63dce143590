import hashlib
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from contracts.nouns import Action
from workcells.appliers import SendRefused, TargetMissing, TargetUnavailable
from workcells.appliers.tracker import Tracker
from workcells.appliers.tracker_files import LOCKS, locked

KEY = "ab" * 32
OTHER = "cd" * 32
CLOSE = {"state": "closed", "state_reason": "completed", "comment": {"body": "Fixed by #20."}}


def action(name: str = "close", payload: dict[str, Any] | None = None, target: str = "o/r#12") -> Action:
    return Action(name=name, target=target, payload=CLOSE if payload is None else payload, precondition={})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "o__r" / "12.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"title": "It breaks", "body": "Always.", "state": "open", "labels": ["zeta", "bug"], "own": 1}))
    return path


@pytest.fixture
def tracker(tmp_path: Path, file: Path) -> Tracker:
    return Tracker(tmp_path, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def read(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def test_observe_answers_in_the_words_of_the_row_shape(tracker: Tracker) -> None:
    assert tracker.observe("O/R#12", ["state", "state_reason", "title", "labels", "body_sha256", "closed_at", "locked"]) == {
        "state": "open",
        "state_reason": None,
        "title": "It breaks",
        "labels": ["bug", "zeta"],
        "body_sha256": hashlib.sha256(b"Always.").hexdigest(),
        "closed_at": None,
        "locked": False,
    }


def test_a_close_and_its_comment_become_true_together(tracker: Tracker, file: Path) -> None:
    receipt = tracker.send(action(), key=KEY)

    document = read(file)
    assert (document["state"], document["state_reason"], document["closed_at"]) == (
        "closed",
        "completed",
        "2026-01-02T03:04:05Z",
    )
    assert document["comments"] == [{"key": KEY, "author": "shopfloor", "at": "2026-01-02T03:04:05Z", "body": "Fixed by #20."}]
    assert document["own"] == 1
    assert receipt.changed
    assert receipt.detail == {
        "file": "o__r/12.json",
        "did": ["state", "state_reason", "comment"],
        "at": "2026-01-02T03:04:05Z",
    }


def test_the_same_key_acts_once(tracker: Tracker, file: Path) -> None:
    tracker.send(action(), key=KEY)
    after_one = file.read_bytes()
    receipt = tracker.send(action(), key=KEY)
    assert file.read_bytes() == after_one
    assert not receipt.changed


def test_the_same_key_does_nothing_even_after_a_person_has_reopened_the_issue(tracker: Tracker, file: Path) -> None:
    tracker.send(action(), key=KEY)
    file.write_text(json.dumps(read(file) | {"state": "open", "state_reason": "reopened"}))
    assert not tracker.send(action(), key=KEY).changed
    assert tracker.observe("o/r#12", ["state"]) == {"state": "open"}


def test_another_key_comments_again_and_changes_no_more(tracker: Tracker, file: Path) -> None:
    tracker.send(action(), key=KEY)
    receipt = tracker.send(action(), key=OTHER)
    assert receipt.detail["did"] == ["comment"]
    assert len(read(file)["comments"]) == 2


def test_reopening_takes_the_closing_time_away(tracker: Tracker, file: Path) -> None:
    tracker.send(action(), key=KEY)
    tracker.send(action("reopen", {"state": "open"}), key=OTHER)
    document = read(file)
    assert (document["state"], document["state_reason"], document["closed_at"]) == ("open", "completed", None)


def test_labels_are_added_and_removed(tracker: Tracker, file: Path) -> None:
    receipt = tracker.send(action("label", {"add": ["stale", "BUG"], "remove": ["Zeta", "absent"]}), key=KEY)
    assert read(file)["labels"] == ["bug", "stale"]
    assert receipt.detail["did"] == ["labels"]


def test_a_pull_request_is_not_closed_with_a_reason(tracker: Tracker, file: Path) -> None:
    file.write_text(json.dumps(read(file) | {"kind": "pull_request"}))
    before = file.read_bytes()
    with pytest.raises(SendRefused, match="no state_reason"):
        tracker.send(action(), key=KEY)
    assert file.read_bytes() == before
    tracker.send(action("close", {"state": "closed"}), key=KEY)
    assert read(file)["state_reason"] is None


def test_the_probe_tells_ours_from_somebody_elses(tracker: Tracker, file: Path) -> None:
    assert tracker.probe(action(), key=KEY, seconds_since_sent=0) == "absent"
    file.write_text(json.dumps(read(file) | {"state": "closed", "state_reason": "completed"}))
    assert tracker.probe(action(), key=KEY, seconds_since_sent=0) == "absent"
    tracker.send(action(), key=KEY)
    assert tracker.probe(action(), key=KEY, seconds_since_sent=0) == "applied"
    file.unlink()
    assert tracker.probe(action(), key=KEY, seconds_since_sent=0) == "unknown"


def test_the_preview_shows_what_send_then_does(tracker: Tracker, file: Path) -> None:
    before = file.read_bytes()
    shown = tracker.preview(action())
    assert file.read_bytes() == before
    assert "-state: open\n+state: closed\n+state_reason: completed" in shown
    assert "+| Fixed by #20." in shown


def test_a_target_cannot_lead_out_of_the_folder(tracker: Tracker, tmp_path: Path) -> None:
    for target in ("../../x#1", "../o__r/x#12", "o/..#12", "/etc/passwd#1"):
        with pytest.raises(SendRefused):
            tracker.send(action(target=target), key=KEY)
        with pytest.raises(SendRefused):
            tracker.observe(target, ["state"])
    assert [path.name for path in tmp_path.iterdir()] == ["o__r"]


def test_a_file_that_is_a_symbolic_link_is_not_followed(tracker: Tracker, file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(TargetUnavailable):
        tracker.observe("o/r#12", ["state"])
    with pytest.raises(TargetUnavailable):
        tracker.send(action(), key=KEY)
    assert read(tmp_path / "elsewhere.json")["state"] == "open"


def test_a_repository_that_is_a_symbolic_link_is_not_followed(tracker: Tracker, file: Path, tmp_path: Path) -> None:
    (tmp_path / "o__linked").symlink_to(file.parent)
    with pytest.raises(TargetUnavailable, match="symbolic link"):
        tracker.send(action(target="o/linked#12"), key=KEY)
    assert read(file)["state"] == "open"


def test_what_is_not_there_is_missing_and_leaves_no_trace(tracker: Tracker, tmp_path: Path) -> None:
    for target in ("o/r#13", "o/unknown#1"):
        with pytest.raises(TargetMissing):
            tracker.observe(target, ["state"])
        with pytest.raises(TargetMissing):
            tracker.send(action(target=target), key=KEY)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["12.json", "o__r"]


def test_a_missing_folder_is_not_a_thousand_deleted_issues(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "unmounted")
    with pytest.raises(TargetUnavailable, match="unmounted is missing"):
        tracker.observe("o/r#12", ["state"])
    with pytest.raises(TargetUnavailable):
        tracker.send(action(), key=KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"state": "open"}',
        b'{"state": "open", "title": 5}',
        b'{"state": "merged", "title": "x"}',
        b'{"state": "open", "title": "x", "labels": [1]}',
        b'{"state": "open", "title": "x", "labels": "bug"}',
        b'{"state": "open", "title": "x", "comments": {}}',
        b'{"state": "open", "state": "closed", "title": "x"}',
        b'{"state": "open", "title": "x", "score": NaN}',
        b'{"state": "open", "title": "x", "state_reason": 1}',
        b'{"state": "open", "title": "x", "kind": "epic"}',
        b'{"state": "open", "title": "x", "number": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_a_malformed_file_is_named_and_left_as_it_is(tracker: Tracker, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for attempt in (lambda: tracker.observe("o/r#12", ["state"]), lambda: tracker.send(action(), key=KEY)):
        with pytest.raises(TargetUnavailable) as refusal:
            attempt()
        assert refusal.value.instance_code == "target.malformed"
        assert str(file) in refusal.value.message
    assert tracker.probe(action(), key=KEY, seconds_since_sent=9) == "unknown"
    assert file.read_bytes() == content


def test_a_fifo_in_place_of_a_file_hangs_nobody(tracker: Tracker, file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(TargetUnavailable, match="not a regular file"):
        tracker.observe("o/r#12", ["state"])


def test_a_lock_that_is_held_is_waited_for_only_so_long(tmp_path: Path, file: Path) -> None:
    before = file.read_bytes()
    with locked(file, wait_seconds=1), pytest.raises(TargetUnavailable, match="nothing was changed"):
        Tracker(tmp_path, lock_seconds=0.05).send(action(), key=KEY)
    assert file.read_bytes() == before


def test_an_edit_by_somebody_who_does_not_lock_is_not_lost(tmp_path: Path, file: Path) -> None:
    def edited_just_now() -> datetime:
        file.write_text(json.dumps(read(file) | {"title": "A better title"}))
        return datetime.now(UTC)

    with pytest.raises(TargetUnavailable, match="edited by somebody else"):
        Tracker(tmp_path, now=edited_just_now).send(action(), key=KEY)
    assert (read(file)["title"], read(file)["state"]) == ("A better title", "open")
    assert not list(file.parent.glob("*.new"))


@pytest.mark.races
def test_many_threads_at_one_issue_lose_no_comment(tracker: Tracker, file: Path) -> None:
    keys = [f"{number:064x}" for number in range(24)]
    errors: list[BaseException] = []

    def comment(mine: list[str]) -> None:
        try:
            for key in mine:
                tracker.send(action("comment", {"body": key}), key=key)
        except BaseException as error:
            errors.append(error)

    # Each key is sent by two threads: lost updates and double comments would both show.
    threads = [threading.Thread(target=comment, args=(keys[start::4],)) for start in (0, 1, 2, 3, 0, 1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(one["key"] for one in read(file)["comments"]) == keys


def test_a_file_keeps_its_mode(tracker: Tracker, file: Path) -> None:
    file.chmod(0o640)
    tracker.send(action(), key=KEY)
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_lone_surrogate_in_a_file_survives(tracker: Tracker, file: Path) -> None:
    file.write_text(json.dumps(read(file) | {"body": "\ud800"}))
    tracker.send(action(), key=KEY)
    assert read(file)["body"] == "\ud800"
    assert tracker.observe("o/r#12", ["body_sha256"])


def test_locks_are_never_made_outside_the_tracker(tracker: Tracker, file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (file.parent / LOCKS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetUnavailable):
        tracker.send(action(), key=KEY)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert read(file)["state"] == "open"
