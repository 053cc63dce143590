import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from contracts.errors import BadSetting
from contracts.nouns import Action
from tests.workcells.appliers.github_server import GitHubServer, Say
from workcells.appliers import SendRefused, TargetMissing
from workcells.appliers.github import GitHub

KEY = "ab" * 32
MARKER = f"<!-- shopfloor:{KEY} -->"
CLOSE = {"state": "closed", "state_reason": "not_planned", "comment": {"body": "Bye."}}


def action(name: str = "close", payload: dict[str, Any] | None = None, target: str = "o/r#1") -> Action:
    return Action(name=name, target=target, payload=CLOSE if payload is None else payload, precondition={"state": "open"})


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue("O/R#1", labels=("zeta", "bug"))
        server.add_issue("O/R#2", pull_request=True)
        yield server


@pytest.fixture
def github(server: GitHubServer) -> GitHub:
    return GitHub(server.token, url=server.url, deadline_seconds=5)


def test_observe_answers_in_the_words_of_the_row_shape(github: GitHub) -> None:
    assert github.observe("o/r#1", ["state", "title", "body", "body_sha256", "labels", "kind", "closed_at"]) == {
        "state": "open",
        "title": "It breaks",
        "body": "When I use it.\nAlways.",
        "body_sha256": hashlib.sha256(b"When I use it.\nAlways.").hexdigest(),
        "labels": ["bug", "zeta"],
        "kind": "issue",
        "closed_at": None,
    }
    assert github.observe("o/r#2", ["kind", "merged_at"]) == {"kind": "pull_request", "merged_at": None}


def test_the_comment_goes_first_and_carries_the_hidden_marker(server: GitHubServer, github: GitHub) -> None:
    receipt = github.send(action(), key=KEY)

    assert [(seen.method, seen.body) for seen in server.requests if seen.method != "GET"] == [
        ("POST", {"body": f"Bye.\n\n{MARKER}"}),
        ("PATCH", {"state": "closed", "state_reason": "not_planned"}),
    ]
    assert receipt.changed
    assert receipt.detail == {"did": ["comment", "state"], "comment_url": "https://github.com/o/r#1-1"}


def test_sending_twice_comments_once_and_changes_nothing_more(server: GitHubServer, github: GitHub) -> None:
    github.send(action(), key=KEY)
    changes = len(server.sent("POST") + server.sent("PATCH"))
    receipt = github.send(action(), key=KEY)
    assert not receipt.changed
    assert receipt.detail["comment_url"] == "https://github.com/o/r#1-1"
    assert len(server.sent("POST") + server.sent("PATCH")) == changes
    assert len(server.comments["o/r#1"]) == 1


@pytest.mark.parametrize("page_limit", [100, 30])
def test_a_marker_on_a_later_page_is_found(server: GitHubServer, github: GitHub, page_limit: int) -> None:
    server.page_limit = page_limit
    for number in range(250):
        server.add_comment("o/r#1", f"noise {number}")
        if number == 230:
            server.add_comment("o/r#1", f"Bye.\n\n{MARKER}")
    github.send(action(), key=KEY)
    assert server.sent("POST") == []
    assert all(seen.path.startswith("/repos/o/r/issues/1") for seen in server.requests)


def test_a_pull_request_is_closed_the_same_way_and_without_a_reason(server: GitHubServer, github: GitHub) -> None:
    with pytest.raises(SendRefused, match="no state_reason"):
        github.send(action(target="o/r#2"), key=KEY)
    assert server.comments["o/r#2"] == []
    github.send(action(payload={"state": "closed", "comment": {"body": "Bye."}}, target="o/r#2"), key=KEY)
    assert server.issues["o/r#2"]["state"] == "closed"


def test_reopening_opens_a_closed_issue(server: GitHubServer, github: GitHub) -> None:
    server.issues["o/r#1"] |= {"state": "closed", "state_reason": "completed", "closed_at": "2026-01-01T00:00:00Z"}
    assert github.send(action("reopen", {"state": "open"}), key=KEY).changed
    assert not github.send(action("reopen", {"state": "open"}), key=KEY).changed
    assert github.observe("o/r#1", ["state", "state_reason"]) == {"state": "open", "state_reason": "reopened"}


def test_labels_are_added_and_removed_one_by_one_so_that_others_stay(server: GitHubServer, github: GitHub) -> None:
    change = action("label", {"add": ["stale", "Bug"], "remove": ["ZETA", "absent"]})
    assert github.send(change, key=KEY).detail["did"] == ["add labels", "remove label"]
    assert github.observe("o/r#1", ["labels"]) == {"labels": ["bug", "stale"]}
    assert server.sent("POST")[0].body == {"labels": ["stale"]}
    assert github.probe(change, key=KEY, seconds_since_sent=0) == "applied"
    assert not github.send(change, key=KEY).changed


def test_a_label_cannot_lead_the_request_elsewhere(server: GitHubServer, github: GitHub) -> None:
    server.issues["o/r#1"]["labels"] = [{"name": "../../2?x=#y"}]
    github.send(action("label", {"remove": ["../../2?x=#y"]}), key=KEY)
    assert server.sent("DELETE")[0].path == "/repos/o/r/issues/1/labels/..%2F..%2F2%3Fx%3D%23y"
    assert server.issues["o/r#1"]["labels"] == []


def test_the_preview_changes_nothing_and_shows_what_send_does(server: GitHubServer, github: GitHub) -> None:
    shown = github.preview(action())
    assert "-state: open\n+state: closed\n+state_reason: not_planned" in shown
    assert "+| Bye." in shown
    assert {seen.method for seen in server.requests} == {"GET"}


def test_an_issue_that_is_gone_is_missing(server: GitHubServer, github: GitHub) -> None:
    with pytest.raises(TargetMissing):
        github.observe("o/r#99", ["state"])
    with pytest.raises(TargetMissing):
        github.send(action(target="o/r#99"), key=KEY)
    assert github.probe(action(target="o/r#99"), key=KEY, seconds_since_sent=999) == "unknown"


def test_an_answer_about_another_issue_is_not_what_was_approved(server: GitHubServer, github: GitHub) -> None:
    server.issues["o/r#1"]["repository_url"] = f"{server.url}/repos/new/home"
    server.issues["o/r#1"]["html_url"] = "https://github.com/new/home/issues/1"
    with pytest.raises(TargetMissing, match="new/home#1"):
        github.send(action(), key=KEY)
    assert {seen.method for seen in server.requests} == {"GET"}


def test_a_change_that_github_silently_drops_is_refused(server: GitHubServer, github: GitHub) -> None:
    server.fail(Say(200, json.dumps(server.issues["o/r#1"]).encode()), method="PATCH")
    with pytest.raises(SendRefused, match="left its state"):
        github.send(action(payload={"state": "closed"}), key=KEY)


def test_the_token_is_in_no_text_that_the_applier_makes(server: GitHubServer, github: GitHub) -> None:
    assert server.token not in repr(github)
    assert server.token not in str(vars(github))


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "clé"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        GitHub(token)
    assert token == "" or token not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://github.example/api/v3",
        "ftp://github.example",
        "github.example",
        "https://user:hunter2@github.example",
        "https://github.example/?x=1",
        "https://github.example:port",
        "https://",
        "",
        "https://g\u0131thub.example",
    ],
)
def test_an_address_that_a_token_must_not_go_to_is_refused(url: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        GitHub("token", url=url)
    assert "hunter2" not in str(refusal.value)


def test_an_enterprise_address_keeps_its_path(server: GitHubServer) -> None:
    with pytest.raises(TargetMissing):
        GitHub(server.token, url=f"{server.url}/api/v3/").observe("o/r#1", ["state"])
    assert server.requests[0].path == "/api/v3/repos/o/r/issues/1"


def test_proxies_of_the_environment_get_no_token(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert github.observe("o/r#1", ["state"]) == {"state": "open"}
