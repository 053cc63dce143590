"""What GitHub's answers mean: which of them are a refusal, a request to wait, a loss, or an issue."""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from contracts.excerpts import visible
from contracts.secret import Secret
from workcells.appliers import SendRefused, SendThrottled, SendUnknown, TargetMissing, TargetUnavailable
from workcells.appliers.changes import Subject
from workcells.appliers.wire import Answer
from workcells.shapes import RowRefused
from workcells.shapes.github_issue import normalise

MIN_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 24 * 3600.0
SECONDARY_WAIT_SECONDS = 60.0
"""What GitHub asks for when it says neither how long nor until when."""
_NEW_CREDENTIAL = "put a token that GitHub accepts into the apply process's settings and start it again"
_MORE_RIGHTS = "give the token write access to issues and pull requests of this repository"


def asked(method: str, path: str) -> str:
    """Return how a message names a request."""
    return f"{method} {visible(path)[:120]}"


def must_be_read(answer: Answer, path: str, *, secret: Secret) -> Answer:
    """Return the answer to a GET when it is 200. Raises SendThrottled, TargetMissing and TargetUnavailable only.

    A refused credential is TargetUnavailable here: nothing was sent yet, and one expired token must not turn every
    approved change into a failed one.
    """
    if answer.status == 200:
        return answer
    said = f"{asked('GET', path)}: GitHub answered {answer.status} ({_said(answer, secret)})"
    _must_not_be_throttled_or_gone(answer, said)
    if answer.status in (401, 403):
        hint = _NEW_CREDENTIAL if answer.status == 401 else _MORE_RIGHTS
        raise TargetUnavailable(said, hint=hint, code="target.credentials")
    raise TargetUnavailable(said)


def judged(answer: Answer, place: str, *, secret: Secret, also: tuple[int, ...] = ()) -> Answer:
    """Return an answer of success, or with a status of `also`; raise what any other means for a change.

    Raises SendThrottled, TargetMissing, SendRefused, and SendUnknown where the change may have been made.
    """
    status = answer.status
    if 200 <= status < 300 or status in also:
        return answer
    said = f"{place}: GitHub answered {status} ({_said(answer, secret)})"
    _must_not_be_throttled_or_gone(answer, said)
    if status == 401:
        raise SendRefused(said, hint=_NEW_CREDENTIAL)
    if status == 403:
        raise SendRefused(said, hint=_MORE_RIGHTS)
    if status in (408, 425) or not 400 <= status < 500:
        raise SendUnknown(f"{said}: whether it took effect is not known")
    raise SendRefused(said)


def read_issue(answer: Answer, subject: Subject) -> dict[str, Any]:
    """Return the issue as github_issue@1, read by the very function that reads it at intake.

    Raises TargetUnavailable when the answer is no such issue, TargetMissing when it is another one.
    """
    row = answer.json()
    if not isinstance(row, dict):
        raise TargetUnavailable(f"{subject.key}: GitHub answered something else than an issue", code="target.malformed")
    try:
        issue = normalise(row)
    except RowRefused as error:
        raise TargetUnavailable(f"{subject.key}: GitHub's answer has {error}", code="target.malformed") from error
    if issue["key"] != subject.key:
        other = visible(issue["key"])[:120]
        raise TargetMissing(f"{subject.key}: GitHub answered with {other}, which is not what was approved")
    return issue


def _must_not_be_throttled_or_gone(answer: Answer, said: str) -> None:
    wait = _wait_seconds(answer)
    if wait is not None:
        raise SendThrottled(f"{said}; it wants {wait:.0f} s of quiet", retry_after_seconds=wait)
    if answer.status in (404, 410):
        raise TargetMissing(f"{said}: the issue is gone, or the token may not see it")
    if 300 <= answer.status < 400:
        raise TargetMissing(f"{said}: it has moved; take it in under its new name, for nothing else was approved")


def _wait_seconds(answer: Answer) -> float | None:
    """Return how long GitHub wants us to stay away; None when this answer is not about a rate."""
    if answer.status not in (403, 429):
        return None
    headers = answer.headers
    wait: float | None = None
    if after := headers.get("retry-after"):
        wait = _seconds_of(after, headers)
    elif headers.get("x-ratelimit-remaining", "").strip() == "0":
        try:
            wait = float(headers.get("x-ratelimit-reset", "")) - _server_now(headers)
        except ValueError:
            wait = SECONDARY_WAIT_SECONDS
    elif answer.status == 429 or "secondary rate limit" in _message(answer).lower():
        wait = SECONDARY_WAIT_SECONDS
    if wait is None:
        return None
    return min(max(wait, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS) if wait == wait else SECONDARY_WAIT_SECONDS  # NaN


def _seconds_of(after: str, headers: Any) -> float:
    try:
        return float(after)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(after).timestamp() - _server_now(headers)
    except (ValueError, OverflowError):
        return SECONDARY_WAIT_SECONDS


def _server_now(headers: Any) -> float:
    # The server's own clock when it says: ours may be an hour off, and the reset time is by theirs.
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return time.time()


def _message(answer: Answer) -> str:
    body = answer.json()
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else ""


def _said(answer: Answer, secret: Secret) -> str:
    """Return GitHub's own words, safe to print and to keep: short, visible, without the token."""
    words = _message(answer).replace(secret.reveal(), "[token]")
    errors = answer.json()
    first = errors.get("errors") if isinstance(errors, dict) else None
    if isinstance(first, list) and first and isinstance(first[0], dict) and isinstance(first[0].get("message"), str):
        words += ": " + first[0]["message"].replace(secret.reveal(), "[token]")
    return visible(words)[:200] or "no message"
