from typing import Any

import pytest
from contracts.nouns import Action
from workcells.appliers import SendRefused
from workcells.appliers.changes import COMMENT_CHARS, Change, read_change, read_key, read_subject

CLOSE = {"state": "closed"}
OPEN_ISSUE = {"kind": "issue", "state": "open", "state_reason": None, "labels": ["Bug", "help wanted"]}


def action(name: str, payload: dict[str, Any], target: str = "o/r#1") -> Action:
    return Action(name=name, target=target, payload=payload, precondition={})


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("merge", {}),
        ("", {}),
        ("close", {}),
        ("close", {"state": "open"}),
        ("close", {"state": True}),
        ("close", CLOSE | {"title": "other"}),
        ("close", CLOSE | {"state_reason": "reopened"}),
        ("close", CLOSE | {"state_reason": ["completed"]}),
        ("close", CLOSE | {"comment": "text"}),
        ("close", CLOSE | {"comment": {"body": "x", "as": "admin"}}),
        ("close", CLOSE | {"comment": {}}),
        ("reopen", {"state": "closed"}),
        ("reopen", {"state": "open", "state_reason": "reopened"}),
        ("comment", {"body": ""}),
        ("comment", {"body": " \n"}),
        ("comment", {"body": 7}),
        ("comment", {"body": "x" * (COMMENT_CHARS + 1)}),
        ("comment", {"body": "\ud800"}),
        ("comment", {"body": "sly <!-- shopfloor:" + "0" * 64 + " -->"}),
        ("label", {}),
        ("label", {"add": [], "remove": []}),
        ("label", {"add": "bug"}),
        ("label", {"add": [""]}),
        ("label", {"add": [None]}),
        ("label", {"add": ["x" * 51]}),
        ("label", {"remove": [".."]}),
        ("label", {"remove": ["."]}),
        ("label", {"add": ["a\nb"]}),
        ("label", {"add": ["\u202egub"]}),
        ("label", {"add": ["bug"], "remove": ["Bug"]}),
        ("label", {"set": ["bug"]}),
    ],
)
def test_what_an_applier_does_not_understand_is_refused(name: str, payload: dict[str, Any]) -> None:
    with pytest.raises(SendRefused) as refusal:
        read_change(action(name, payload))
    assert refusal.value.message.isascii()
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    "target",
    [
        "../../x#1", "../x#1", "o/..#1", "o/.#1", "./r#1", "o/r", "o/r#0", "o/r#01", "o/r#-1", "o/r#1#2",
        "o/r/s#1", "o r/x#1", "o/r#1\n", "/r#1", "o/#1", "o//r#1", "o\\r#1", "o/r#1234567890123", "o__x/r#1",
        "o_/r#1", "ö/r#1", "o/r#１", "o" * 300 + "/r#1",
    ],
)  # fmt: skip
def test_a_target_that_is_not_plainly_an_issue_is_refused(target: str) -> None:
    with pytest.raises(SendRefused):
        read_subject(target)


def test_a_target_is_compared_without_case() -> None:
    assert read_subject("Owner/Repo.js#12").key == "owner/repo.js#12"


@pytest.mark.parametrize("key", ["", "abc", "g" * 64, "A" * 64, "0" * 200, "0" * 63 + "\n", "-->"])
def test_a_key_that_could_end_its_marker_is_refused(key: str) -> None:
    with pytest.raises(SendRefused):
        read_key(key)


def test_closing_gives_the_reason_that_was_asked_for_and_no_other() -> None:
    assert Change(state="closed", state_reason="not_planned").moves(OPEN_ISSUE) == {"state": "closed", "state_reason": "not_planned"}
    assert Change(state="closed").moves(OPEN_ISSUE) == {"state": "closed"}


def test_closing_again_without_a_reason_keeps_the_reason_that_is_there() -> None:
    closed = OPEN_ISSUE | {"state": "closed", "state_reason": "duplicate"}
    assert Change(state="closed").moves(closed) == {}
    assert Change(state="closed", state_reason="completed").moves(closed) == {"state_reason": "completed"}


def test_a_pull_request_is_closed_without_a_reason() -> None:
    pull = OPEN_ISSUE | {"kind": "pull_request"}
    assert Change(state="closed").moves(pull) == {"state": "closed"}
    with pytest.raises(SendRefused, match="no state_reason"):
        Change(state="closed", state_reason="completed").must_fit(pull, "o/r#1")


def test_reopening_an_open_issue_moves_nothing() -> None:
    assert Change(state="open").moves(OPEN_ISSUE) == {}
    assert Change(state="open").moves(OPEN_ISSUE | {"state": "closed", "state_reason": "completed"}) == {"state": "open"}


def test_labels_are_compared_without_case_and_never_doubled() -> None:
    change = Change(add=("bug", "stale"), remove=("HELP WANTED", "absent"))
    assert change.after(OPEN_ISSUE)["labels"] == ["Bug", "stale"]
    assert Change(add=("BUG",)).moves(OPEN_ISSUE) == {}
