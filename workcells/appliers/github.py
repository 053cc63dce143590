"""Issues and pull requests on GitHub or a GitHub Enterprise Server, over the REST API.

A comment carries the action id in a hidden marker, which is looked up before anything is posted; all else is set, and
setting it twice is setting it once. An action with a comment takes several requests. **The comment goes first**: when
the process dies after it, state, reason and labels are still as approved, so the drift check passes, the next send
finds the marker, posts nothing and completes the rest. The other way round, the closed issue would look like drift and
the comment would never be written. Once one request of an action has taken effect, whatever keeps the others from it is
SendUnknown (or SendRefused, saying what was done), never "certainly not sent".

A label that the repository does not have is created by GitHub when it is added.
"""

import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote, urlsplit

import certifi
import httpcore
from contracts.errors import BadSetting
from contracts.nouns import Action
from contracts.secret import Secret
from workcells.appliers import (
    Idempotency,
    Probed,
    Receipt,
    SendRefused,
    SendThrottled,
    SendUnknown,
    TargetMissing,
    TargetUnavailable,
    known_fields,
)
from workcells.appliers.changes import (
    ACTIONS,
    FIELDS,
    MARKER_START,
    Change,
    Subject,
    read_change,
    read_key,
    read_subject,
)
from workcells.appliers.github_answers import asked, judged, must_be_read, read_issue
from workcells.appliers.preview import difference
from workcells.appliers.wire import Answer, Conversation

DEFAULT_URL = "https://api.github.com"
ANSWER_BYTES = 32 * 1024 * 1024
"""A page of 100 comments of the largest size is 26 MB."""
PAGE = 100
PAGES = 100
"""Comments beyond 10,000 are not searched for a marker; such an issue is refused."""


class GitHub:
    """An applier for the issues that one token can reach."""

    name: ClassVar[str] = "github"
    idempotency: ClassVar[Idempotency] = "probeable"
    actions: ClassVar[frozenset[str] | None] = ACTIONS
    fields: ClassVar[frozenset[str] | None] = FIELDS

    def __init__(
        self,
        token: Secret | str,
        *,
        url: str = DEFAULT_URL,
        deadline_seconds: float = 30,
        settle_seconds: float = 60,
        ca_file: str | None = None,
    ) -> None:
        """Make an applier; nothing is asked yet. `ca_file` replaces the public certificate authorities.

        `deadline_seconds` is for a whole observe, send, probe or preview. Raises BadSetting.
        """
        self._token = token if isinstance(token, Secret) else Secret(token)
        secret = self._token.reveal()
        if not secret or not all("!" <= c <= "~" for c in secret):
            raise BadSetting("the GitHub token is empty, or holds a space or a non-ASCII character (it is not shown)")
        self._origin = _origin(url)
        self._deadline_seconds = deadline_seconds
        self._settle_seconds = settle_seconds
        try:
            secure = self._origin.scheme == b"https"
            self._trust = ssl.create_default_context(cafile=ca_file or certifi.where()) if secure else None
        except OSError as error:
            raise BadSetting(f"certificate authorities cannot be read from {ca_file}: {error}") from error

    def __repr__(self) -> str:
        """Name the address, never the token."""
        return f"GitHub({bytes(self._origin).decode('ascii', 'replace')!r})"

    @property
    def settle_seconds(self) -> float:
        """GitHub's lists may lag behind its writes, and a request given up here may still be running there."""
        return self._settle_seconds

    def check(self, action: Action) -> None:
        """Return when `send` would accept the action. Raises SendRefused."""
        read_subject(action.target)
        read_change(action)

    def observe(self, target: str, fields: Sequence[str]) -> dict[str, Any]:
        """Return the fields as GitHub gives them now, in the words of github_issue@1."""
        known_fields(self, fields)
        with self._talk() as talk:
            issue = self._issue(talk, read_subject(target))
        hashed = hashlib.sha256(issue["body"].encode(errors="surrogatepass")).hexdigest()
        return {name: hashed if name == "body_sha256" else issue[name] for name in fields}

    def send(self, action: Action, *, key: str) -> Receipt:
        """Make the action true on GitHub, comment first."""
        subject, change, key = read_subject(action.target), read_change(action), read_key(key)
        detail: dict[str, Any] = {"did": []}
        with self._talk() as talk:
            issue = self._issue(talk, subject)
            change.must_fit(issue, action.target)
            try:
                self._carry_out(talk, subject, issue, change, key, detail)
            except (SendRefused, TargetMissing, TargetUnavailable, SendUnknown) as error:
                _restate(error, action, detail["did"])
        return Receipt(self.name, action.target, key, changed=bool(detail["did"]), detail=detail)

    def probe(self, action: Action, *, key: str, seconds_since_sent: float) -> Probed:
        """Return `applied` when marker, state and labels are all there; `absent` only after `settle_seconds`.

        An issue that carries the marker and has been reopened since is `unknown`: closing it again is for a person.
        """
        subject, change = read_subject(action.target), read_change(action)
        try:
            with self._talk() as talk:
                issue = self._issue(talk, subject)
                marked = change.comment is not None and self._find(talk, subject, key) is not None
        except (TargetMissing, SendRefused):
            return "unknown"
        if (marked or change.comment is None) and not change.moves(issue):
            return "applied"
        before = action.precondition.get("state_reason")
        if marked and change.state == "closed" and issue["state_reason"] == "reopened" != before:
            return "unknown"
        return "absent" if seconds_since_sent >= self._settle_seconds else "unknown"

    def preview(self, action: Action) -> str:
        """Return what `send` would change, without the marker."""
        change = read_change(action)
        with self._talk() as talk:
            issue = self._issue(talk, read_subject(action.target))
        change.must_fit(issue, action.target)
        return difference(action.target, issue, issue | change.after(issue), change.comment)

    def _talk(self) -> Conversation:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token.reveal()}",
            "User-Agent": "shopfloor",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        return Conversation(self._origin, seconds=self._deadline_seconds, max_bytes=ANSWER_BYTES, headers=headers, trust=self._trust)

    def _issue(self, talk: Conversation, subject: Subject) -> dict[str, Any]:
        path = _path(subject)
        return read_issue(must_be_read(talk.ask("GET", path), path, secret=self._token), subject)

    def _find(self, talk: Conversation, subject: Subject, key: str) -> str | None:
        """Return the address of the comment that carries the key, None when the list that GitHub gives has none."""
        marker = _marker(key)
        for page in range(1, PAGES + 1):
            path = f"{_path(subject)}/comments?per_page={PAGE}&page={page}"
            answer = must_be_read(talk.ask("GET", path), path, secret=self._token)
            comments = answer.json()
            if not isinstance(comments, list):
                raise TargetUnavailable(f"GET {path} answered something else than a list of comments")
            for comment in comments:
                if isinstance(comment, dict) and marker in (comment.get("body") or ""):
                    return str(comment.get("html_url") or "")
            if not comments or (len(comments) < PAGE and 'rel="next"' not in answer.headers.get("link", "")):
                return None
        raise SendRefused(f"{subject.key} has more than {PAGE * PAGES} comments: too many to look for the one of {key}")

    def _carry_out(
        self,
        talk: Conversation,
        subject: Subject,
        issue: dict[str, Any],
        change: Change,
        key: str,
        detail: dict[str, Any],
    ) -> None:
        """Send what is missing, noting in `detail` what took effect as soon as it has."""
        path, did = _path(subject), detail["did"]
        if change.comment is not None:
            seen = self._find(talk, subject, key)
            if seen is None:
                body = f"{change.comment}\n\n{_marker(key)}"
                made = self._change(talk, "POST", f"{path}/comments", {"body": body}).json()
                did.append("comment")
                seen = str(made.get("html_url") or "") if isinstance(made, dict) else ""
            detail["comment_url"] = seen[:300]
        moved = change.moves(issue)
        if "labels" in moved:
            there = {name.casefold(): name for name in issue["labels"]}
            if missing := [name for name in change.add if name.casefold() not in there]:
                self._change(talk, "POST", f"{path}/labels", {"labels": missing})
                did.append("add labels")
            for name in change.remove:
                if name.casefold() in there:
                    gone = f"{path}/labels/{quote(there[name.casefold()], safe='')}"
                    # 404 after the issue itself was read means that somebody else has removed the label just now.
                    if self._change(talk, "DELETE", gone, None, also=(404,)).status != 404:
                        did.append("remove label")
        if "state" in moved or "state_reason" in moved:
            wanted: dict[str, Any] = {"state": change.state}
            if change.state_reason:
                wanted["state_reason"] = change.state_reason
            answer = self._change(talk, "PATCH", path, wanted).json()
            # GitHub drops what a token may not do and answers 200 all the same.
            if isinstance(answer, dict) and answer.get("state") not in (None, change.state):
                raise SendRefused(
                    f"GitHub accepted the change of {subject.key} and left its state {answer.get('state')!r:.20}: "
                    "the token may not do this; give it write access to issues"
                )
            did.append("state")

    def _change(self, talk: Conversation, method: str, path: str, body: Any, *, also: tuple[int, ...] = ()) -> Answer:
        return judged(talk.ask(method, path, body), asked(method, path), secret=self._token, also=also)


def _restate(error: SendRefused | TargetMissing | TargetUnavailable | SendUnknown, action: Action, did: list[str]) -> NoReturn:
    """Raise `error` as it is when nothing had taken effect before it, else saying what had."""
    if not did:
        raise error
    done = f"{action.name} of {action.target}: done: {', '.join(did)}; not done: {error.message}"
    if isinstance(error, SendRefused | TargetMissing):
        raise SendRefused(done, hint=error.hint) from error
    wait = error.retry_after_seconds if isinstance(error, SendThrottled | SendUnknown) else None
    raise SendUnknown(done, retry_after_seconds=wait) from error


def _marker(key: str) -> str:
    return f"{MARKER_START}{read_key(key)} -->"


def _path(subject: Subject) -> str:
    return f"/repos/{subject.owner}/{subject.repo}/issues/{subject.number}"


def _origin(url: str) -> httpcore.URL:
    """Return the API's address. Raises BadSetting for anything that a token must not be sent to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("ascii")
        usable = parts.scheme in ("http", "https") and host and url.isprintable()
    except ValueError:
        raise BadSetting(f"SHOPFLOOR_GITHUB_URL {ascii(url)[:80]} is not an address: expected {DEFAULT_URL}") from None
    if parts.username is not None or parts.password is not None:
        raise BadSetting("SHOPFLOOR_GITHUB_URL holds a user name or password: the token is a setting of its own")
    if not usable or parts.query or parts.fragment:
        raise BadSetting(f"SHOPFLOOR_GITHUB_URL {ascii(url)[:80]} is not the address of an API: expected {DEFAULT_URL}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise BadSetting(f"SHOPFLOOR_GITHUB_URL starts with http://{host}: expected https://, which hides the token")
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=parts.path or "/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
