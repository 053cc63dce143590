"""Each way in which a target can fail, and which of the four answers the apply stage gets for it."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from contracts.nouns import Action
from tests.workcells.appliers.github_server import Cut, Drip, Fault, GitHubServer, Huge, Say, Silent, Torn
from workcells.appliers import SendRefused, SendThrottled, SendUnknown, TargetMissing, TargetUnavailable
from workcells.appliers.github import GitHub

ROOT = Path(__file__).parents[3]
KEY = "ab" * 32
SHORT_SECONDS = 0.4
"""For calls that are to meet the deadline; every other call gets a deadline that a busy machine does not meet."""
SETTLED = 61.0
COMMENT = Action(name="comment", target="o/r#1", payload={"body": "Hello."}, precondition={})
CLOSE = Action(
    name="close",
    target="o/r#1",
    payload={"state": "closed", "comment": {"body": "Bye."}},
    precondition={"state": "open", "state_reason": None},
)
PLAIN_CLOSE = Action(name="close", target="o/r#1", payload={"state": "closed"}, precondition={"state": "open"})

BROKEN: list[Fault] = [
    Silent(effect=False),
    Cut(effect=False),
    Say(500),
    Say(502, b"<html>"),
    Drip(),
    Drip(from_the_start=True),
    Torn(),
    Say(200, b"not json"),
    Say(200, b"[]"),
    Say(200, b'{"number": 1}'),
    Say(200, b"[" * 100_000),
    Say(401),
    Say(403),
    Say(204, b""),
]
"""What leaves a GET without a usable answer."""


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue("o/r#1", labels=("bug",))
        yield server


@pytest.fixture
def github(server: GitHubServer) -> GitHub:
    return GitHub(server.token, url=server.url, deadline_seconds=20)


@pytest.fixture
def hasty(server: GitHubServer) -> GitHub:
    return GitHub(server.token, url=server.url, deadline_seconds=SHORT_SECONDS)


def test_no_listener_is_certainly_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        github = GitHub("token", url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(TargetUnavailable, match="was not sent"):
            github.send(COMMENT, key=KEY)


def test_a_handshake_that_never_ends_is_certainly_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        github = GitHub("token", url=f"https://127.0.0.1:{mute.getsockname()[1]}", deadline_seconds=SHORT_SECONDS)
        with pytest.raises(TargetUnavailable, match="was not sent"):
            github.send(COMMENT, key=KEY)


def test_a_name_that_does_not_resolve_is_certainly_not_sent() -> None:
    with pytest.raises(TargetUnavailable, match="was not sent"):
        GitHub("token", url="https://nowhere.invalid", deadline_seconds=5).send(COMMENT, key=KEY)


@pytest.mark.parametrize("fault", BROKEN, ids=str)
def test_whatever_breaks_while_reading_nothing_is_sent(server: GitHubServer, hasty: GitHub, fault: Fault) -> None:
    server.fail(fault, method="GET")
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        hasty.send(CLOSE, key=KEY)
    assert time.monotonic() - started < SHORT_SECONDS + 2
    assert {seen.method for seen in server.requests} == {"GET"}
    assert len(server.requests) == 1
    assert server.issues["o/r#1"]["state"] == "open"


def test_an_answer_of_200_mb_is_refused_before_it_is_read(server: GitHubServer) -> None:
    server.fail(Huge(200 * 1024 * 1024))
    with pytest.raises(TargetUnavailable, match="larger than"):
        GitHub(server.token, url=server.url, deadline_seconds=20).observe("o/r#1", ["state"])


def test_a_compressed_answer_is_neither_asked_for_nor_unpacked(server: GitHubServer, github: GitHub) -> None:
    server.fail(Say(200, json.dumps(server.issues["o/r#1"]).encode(), {"Content-Encoding": "gzip"}))
    with pytest.raises(TargetUnavailable, match="compressed"):
        github.observe("o/r#1", ["state"])
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_an_issue_with_too_many_comments_to_search_is_refused_before_anything_is_posted(server: GitHubServer, github: GitHub) -> None:
    server.page_limit = 1
    for number in range(101):
        server.add_comment("o/r#1", f"noise {number}")
    with pytest.raises(SendRefused, match="too many"):
        github.send(CLOSE, key=KEY)
    assert github.probe(CLOSE, key=KEY, seconds_since_sent=SETTLED) == "unknown"
    assert {seen.method for seen in server.requests} == {"GET"}


def test_a_huge_answer_to_a_change_that_was_made_is_still_success(server: GitHubServer) -> None:
    server.fail(Huge(200 * 1024 * 1024, effect=True, status=201), method="POST")
    receipt = GitHub(server.token, url=server.url, deadline_seconds=20).send(CLOSE, key=KEY)
    assert receipt.detail["did"] == ["comment", "state"]


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("fault", [Silent, Cut], ids=lambda fault: fault.__name__)
def test_a_lost_answer_to_a_comment_is_unknown_and_the_probe_finds_out(
    server: GitHubServer, github: GitHub, hasty: GitHub, fault: type[Silent] | type[Cut], effect: bool
) -> None:
    server.fail(fault(effect=effect), method="POST")
    with pytest.raises(SendUnknown):
        hasty.send(COMMENT, key=KEY)

    assert github.probe(COMMENT, key=KEY, seconds_since_sent=0) == ("applied" if effect else "unknown")
    assert github.probe(COMMENT, key=KEY, seconds_since_sent=SETTLED) == ("applied" if effect else "absent")
    github.send(COMMENT, key=KEY)
    assert len(server.comments["o/r#1"]) == 1


@pytest.mark.parametrize("effect", [True, False])
def test_a_500_after_a_comment_was_sent_is_unknown(server: GitHubServer, github: GitHub, effect: bool) -> None:
    server.fail(Say(500, effect=effect), method="POST")
    with pytest.raises(SendUnknown):
        github.send(COMMENT, key=KEY)
    github.send(COMMENT, key=KEY)
    assert len(server.comments["o/r#1"]) == 1


@pytest.mark.parametrize("effect", [True, False])
def test_a_lost_answer_to_a_close_is_unknown_and_sending_again_converges(
    server: GitHubServer, github: GitHub, hasty: GitHub, effect: bool
) -> None:
    server.fail(Silent(effect=effect), method="PATCH")
    with pytest.raises(SendUnknown):
        hasty.send(PLAIN_CLOSE, key=KEY)
    assert github.probe(PLAIN_CLOSE, key=KEY, seconds_since_sent=SETTLED) == ("applied" if effect else "absent")
    github.send(PLAIN_CLOSE, key=KEY)
    assert github.probe(PLAIN_CLOSE, key=KEY, seconds_since_sent=0) == "applied"


def test_a_status_that_came_back_counts_even_when_its_body_does_not(server: GitHubServer, hasty: GitHub) -> None:
    server.fail(Drip(effect=True, status=201), method="POST")
    receipt = hasty.send(COMMENT, key=KEY)
    assert receipt.changed
    assert receipt.detail == {"did": ["comment"], "comment_url": ""}


def test_a_byte_now_and_then_meets_the_deadline_of_the_whole(server: GitHubServer, hasty: GitHub) -> None:
    server.fail(Drip(from_the_start=True), method="POST")
    started = time.monotonic()
    with pytest.raises(SendUnknown):
        hasty.send(COMMENT, key=KEY)
    assert time.monotonic() - started < SHORT_SECONDS + 2


def test_a_list_that_lags_behind_is_not_believed_too_early(server: GitHubServer, github: GitHub, hasty: GitHub) -> None:
    server.hide_comments()
    server.fail(Silent(effect=True), method="POST")
    with pytest.raises(SendUnknown):
        hasty.send(COMMENT, key=KEY)

    assert github.probe(COMMENT, key=KEY, seconds_since_sent=1) == "unknown"
    server.show_comments()
    assert github.probe(COMMENT, key=KEY, seconds_since_sent=SETTLED) == "applied"
    assert len(server.comments["o/r#1"]) == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Say(429), 60.0),
        (Say(429, headers={"Retry-After": "17"}), 17.0),
        (Say(403, headers={"Retry-After": "0"}), 1.0),
        (Say(403, headers={"Retry-After": "nan"}), 60.0),
        (Say(403, headers={"Retry-After": "inf"}), 86_400.0),
        (Say(403, headers={"Retry-After": "soon"}), 60.0),
        (Say(403, headers={"X-RateLimit-Remaining": "0"}), 60.0),
        (Say(403, b'{"message": "You have exceeded a secondary rate limit."}'), 60.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_rate_limit_says_how_long_to_wait(server: GitHubServer, github: GitHub, fault: Say, seconds: float, method: str) -> None:
    server.fail(fault, method=method)
    with pytest.raises(SendThrottled) as throttled:
        github.send(COMMENT, key=KEY)
    assert throttled.value.retry_after_seconds == seconds
    assert server.comments["o/r#1"] == []


def test_a_rate_limit_is_counted_by_the_servers_clock(server: GitHubServer, github: GitHub) -> None:
    theirs = int(time.time()) - 3600
    date = {"Date": formatdate(theirs, usegmt=True)}
    for limit in (
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(theirs + 300)},
        {"Retry-After": formatdate(theirs + 300, usegmt=True)},
    ):
        server.fail(Say(403, headers=date | limit))
        with pytest.raises(SendThrottled) as throttled:
            github.observe("o/r#1", ["state"])
        assert throttled.value.retry_after_seconds == 300


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 451])
def test_a_permanent_no_is_a_refusal_in_githubs_words(server: GitHubServer, github: GitHub, status: int) -> None:
    server.fail(Say(status, b'{"message": "Nope\\u001b[2J", "errors": [{"message": "because"}]}'), method="POST")
    with pytest.raises(SendRefused, match=rf"answered {status} \(Nope.*because\)") as refusal:
        github.send(COMMENT, key=KEY)
    assert "\x1b" not in refusal.value.message
    assert bool(refusal.value.hint) == (status in (401, 403))


@pytest.mark.parametrize("status", [404, 410, 301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_gone_or_moved_is_missing_and_no_redirect_is_followed(server: GitHubServer, github: GitHub, status: int, method: str) -> None:
    server.fail(Say(status, headers={"Location": f"{server.url}/elsewhere"}), method=method)
    action = PLAIN_CLOSE if method == "PATCH" else COMMENT
    with pytest.raises(TargetMissing):
        github.send(action, key=KEY)
    assert not any("elsewhere" in seen.path for seen in server.requests)
    assert server.issues["o/r#1"]["state"] == "open"


def test_a_token_that_expired_is_waited_for_and_not_charged_to_the_action(server: GitHubServer) -> None:
    with pytest.raises(TargetUnavailable) as refusal:
        GitHub("expired", url=server.url).observe("o/r#1", ["state"])
    assert refusal.value.instance_code == "target.credentials"
    assert "token" in refusal.value.hint


def test_a_server_that_repeats_the_token_does_not_get_it_into_a_message(server: GitHubServer, github: GitHub) -> None:
    echo = b'{"message": "bad: %s", "errors": [{"message": "%s"}]}' % (server.token.encode(), server.token.encode())
    server.fail(Say(422, echo), method="POST")
    with pytest.raises(SendRefused) as refusal:
        github.send(COMMENT, key=KEY)
    assert server.token not in str(refusal.value)
    assert "[token]" in refusal.value.message


WAIT = Say(429, headers={"Retry-After": "17"})


@pytest.mark.parametrize("fault", [Say(500), WAIT, Cut(effect=False), Silent(effect=True)], ids=str)
def test_once_the_comment_is_out_nothing_counts_as_not_sent(server: GitHubServer, github: GitHub, hasty: GitHub, fault: Fault) -> None:
    server.fail(fault, method="PATCH")
    with pytest.raises(SendUnknown, match="done: comment") as half:
        (hasty if isinstance(fault, Silent) else github).send(CLOSE, key=KEY)
    assert half.value.retry_after_seconds == (17 if fault is WAIT else None)

    if github.probe(CLOSE, key=KEY, seconds_since_sent=SETTLED) != "applied":
        assert github.observe("o/r#1", ["state"]) == {"state": "open"}  # no drift by our own half
        github.send(CLOSE, key=KEY)
    assert github.probe(CLOSE, key=KEY, seconds_since_sent=0) == "applied"
    assert len(server.comments["o/r#1"]) == 1


def test_a_close_that_is_refused_after_its_comment_says_what_stands(server: GitHubServer, github: GitHub) -> None:
    server.fail(Say(403), method="PATCH")
    with pytest.raises(SendRefused, match=r"done: comment; not done: .*403"):
        github.send(CLOSE, key=KEY)


def test_an_issue_that_was_reopened_after_our_comment_is_for_a_person(server: GitHubServer, github: GitHub) -> None:
    github.send(CLOSE, key=KEY)
    server.issues["o/r#1"] |= {"state": "open", "state_reason": "reopened", "closed_at": None}
    assert github.probe(CLOSE, key=KEY, seconds_since_sent=SETTLED) == "unknown"


def test_a_probe_that_cannot_ask_says_so(server: GitHubServer, github: GitHub) -> None:
    server.fail(Say(503))
    with pytest.raises(TargetUnavailable):
        github.probe(COMMENT, key=KEY, seconds_since_sent=SETTLED)


def test_a_label_that_somebody_removes_in_the_same_moment_is_no_error(server: GitHubServer, github: GitHub) -> None:
    server.fail(Say(404), method="DELETE")
    relabel = Action(name="label", target="o/r#1", payload={"remove": ["bug"], "add": ["stale"]}, precondition={})
    assert github.send(relabel, key=KEY).detail["did"] == ["add labels"]


def test_a_kill_between_comment_and_close_converges_to_one_comment_and_a_closed_issue(server: GitHubServer, github: GitHub) -> None:
    server.fail(Silent(effect=False), method="PATCH")
    script = f"""
from contracts.nouns import Action
from workcells.appliers.github import GitHub
close = Action.model_validate_json({CLOSE.model_dump_json()!r})
GitHub({server.token!r}, url={server.url!r}).send(close, key={KEY!r})
"""
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    until = time.monotonic() + 30
    while not server.sent("PATCH") and time.monotonic() < until and child.poll() is None:
        server.hold(0.01)
    child.kill()
    assert child.wait() == -9
    server.heal()

    assert [seen.method for seen in server.requests if seen.method != "GET"] == ["POST", "PATCH"]
    assert github.probe(CLOSE, key=KEY, seconds_since_sent=SETTLED) == "absent"
    github.send(CLOSE, key=KEY)
    assert github.probe(CLOSE, key=KEY, seconds_since_sent=0) == "applied"
    assert server.issues["o/r#1"]["state"] == "closed"
    assert len(server.comments["o/r#1"]) == 1
