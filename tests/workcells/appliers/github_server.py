"""A small GitHub on a local port: issues, pull requests, labels and comments, and every way in which a target can fail.

    with GitHubServer() as github:
        github.add_issue("o/r#1", title="It breaks")
        github.fail(Silent(effect=True), method="POST")          # the next POST is carried out and never answered
        applier = GitHub(github.token, url=github.url, deadline_seconds=0.5)

A fault applies to the next `times` requests that it matches; `github.heal()` forgets all and lets go of what is held.
`hide_comments()` keeps comments written from then on out of the lists until `show_comments()`: a list that lags behind.
"""

import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROAD = re.compile(r"/repos/([^/]+)/([^/]+)/issues/(\d+)(?:/(comments|labels)(?:/([^/]+))?)?")
_AT = "2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class Silent:
    """Nothing is ever answered; the request is carried out or not."""

    effect: bool


@dataclass(frozen=True)
class Cut:
    """The connection is closed instead of an answer."""

    effect: bool


@dataclass(frozen=True)
class Say:
    """Another answer than the true one."""

    status: int
    body: bytes = b'{"message": "as told"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    effect: bool = False


@dataclass(frozen=True)
class Drip:
    """A byte now and then, from the status line on or only in the body, without end."""

    effect: bool = False
    status: int = 200
    from_the_start: bool = False
    every_seconds: float = 0.02


@dataclass(frozen=True)
class Huge:
    """A body of this size."""

    size_bytes: int
    effect: bool = False
    status: int = 200


@dataclass(frozen=True)
class Torn:
    """The true answer, without the last half of its body."""


Fault = Silent | Cut | Say | Drip | Huge | Torn


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]


@dataclass
class _Planned:
    fault: Fault
    method: str | None
    containing: str
    times: int


class GitHubServer:
    """The server and all that it knows; safe to look into from the test's thread."""

    def __init__(self, *, token: str = "token-of-the-tests", page_limit: int = 100, certificate: Path | None = None) -> None:
        """Bind a port; it answers inside `with`. `certificate`, a PEM file with its key, makes it speak TLS."""
        self.token = token
        self.page_limit = page_limit
        """At most this many comments on a page, whatever the client asks for."""
        self.issues: dict[str, dict[str, Any]] = {}
        self.comments: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[Seen] = []
        self._plans: list[_Planned] = []
        self._hidden_from: int | None = None
        self._made = 0
        self._lock = threading.RLock()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Answering)
        self._server.github = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake belongs to the thread of the connection, not to the one that accepts.
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_issue(self, key: str, *, pull_request: bool = False, labels: tuple[str, ...] = (), **fields: Any) -> None:
        """Make an issue that anybody with the token can see; `fields` are those of the REST API."""
        repo, _, number = key.partition("#")
        page = "pull" if pull_request else "issues"
        issue: dict[str, Any] = {
            "url": f"{self.url}/repos/{repo}/issues/{number}",
            "repository_url": f"{self.url}/repos/{repo}",
            "html_url": f"https://github.com/{repo}/{page}/{number}",
            "number": int(number),
            "title": "It breaks",
            "body": "When I use it.\r\nAlways.",
            "user": {"login": "somebody"},
            "labels": [{"name": name} for name in labels],
            "state": "open",
            "state_reason": None,
            "locked": False,
            "author_association": "NONE",
            "created_at": _AT,
            "updated_at": _AT,
            "closed_at": None,
        }
        if pull_request:
            issue |= {"draft": False, "pull_request": {"merged_at": None}}
        self.issues[key.lower()] = issue | fields
        self.comments[key.lower()] = []

    def add_comment(self, key: str, body: str) -> None:
        """Write a comment as somebody else would."""
        with self._lock:
            self._made += 1
            page = f"https://github.com/{key}-{self._made}"
            self.comments[key.lower()].append({"id": self._made, "body": body, "html_url": page})

    def fail(self, fault: Fault, *, method: str | None = None, containing: str = "", times: int = 1) -> None:
        """Let the next `times` requests of `method`, with `containing` in their path, meet `fault`."""
        with self._lock:
            self._plans.append(_Planned(fault, method, containing, times))

    def heal(self) -> None:
        """Forget all planned faults and let go of the requests that are being held."""
        with self._lock:
            self._plans.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def hide_comments(self) -> None:
        """Leave comments that are written from now on out of the lists."""
        with self._lock:
            self._hidden_from = self._made + 1

    def show_comments(self) -> None:
        """List all comments again."""
        with self._lock:
            self._hidden_from = None

    def sent(self, method: str) -> list[Seen]:
        """Return the requests of one method so far."""
        with self._lock:
            return [seen for seen in self.requests if seen.method == method]

    def take_fault(self, seen: Seen) -> Fault | None:
        """Note a request and return the fault that it meets."""
        with self._lock:
            self.requests.append(seen)
            for plan in self._plans:
                if plan.times > 0 and plan.method in (None, seen.method) and plan.containing in seen.path:
                    plan.times -= 1
                    return plan.fault
        return None

    def hold(self, seconds: float | None = None) -> bool:
        """Wait until healed or closed; True when that came before `seconds` were over."""
        return self._released.wait(seconds)

    def carry_out(self, seen: Seen) -> tuple[int, Any, dict[str, str]]:
        """Do what a request asks for and return status, body and headers."""
        path, _, query = seen.path.partition("?")
        match = _ROAD.fullmatch(path)
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "Bad credentials"}, {}
        with self._lock:
            key = f"{match[1]}/{match[2]}#{match[3]}".lower() if match else ""
            issue = self.issues.get(key)
            if match is None or issue is None:
                return 404, {"message": "Not Found"}, {}
            match seen.method, match[4], match[5]:
                case "GET", None, _:
                    return 200, issue | {"comments": len(self.comments[key])}, {}
                case "PATCH", None, _:
                    return self._patch(issue, seen.body)
                case "GET", "comments", _:
                    return self._list(key, dict(urllib.parse.parse_qsl(query)))
                case "POST", "comments", _:
                    self.add_comment(key, seen.body["body"])
                    return 201, self.comments[key][-1], {}
                case "POST", "labels", _:
                    names = {label["name"] for label in issue["labels"]}
                    issue["labels"] += [{"name": name} for name in seen.body["labels"] if name not in names]
                    return 200, issue["labels"], {}
                case "DELETE", "labels", str(quoted):
                    name = urllib.parse.unquote(quoted)
                    left = [label for label in issue["labels"] if label["name"] != name]
                    if len(left) == len(issue["labels"]):
                        return 404, {"message": "Label does not exist"}, {}
                    issue["labels"] = left
                    return 200, left, {}
        return 405, {"message": "Method Not Allowed"}, {}

    def _patch(self, issue: dict[str, Any], wanted: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if wanted["state"] == "open" and (issue.get("pull_request") or {}).get("merged_at"):
            errors = [{"message": "a merged pull request stays closed"}]
            return 422, {"message": "Validation Failed", "errors": errors}, {}
        if wanted["state"] == "closed":
            reason = wanted.get("state_reason") or (issue["state_reason"] if issue["state"] == "closed" else "completed")
            if "pull_request" in issue:
                reason = None
            issue |= {"state": "closed", "state_reason": reason, "closed_at": issue["closed_at"] or _AT}
        elif issue["state"] == "closed":
            issue |= {"state": "open", "state_reason": "reopened", "closed_at": None}
        return 200, dict(issue), {}

    def _list(self, key: str, query: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        size = min(int(query.get("per_page", 30)), self.page_limit)
        page = int(query.get("page", 1))
        listed = [one for one in self.comments[key] if self._hidden_from is None or one["id"] < self._hidden_from]
        more = len(listed) > size * page
        link = {"Link": f'<{self.url}/elsewhere?page={page + 1}>; rel="next"'} if more else {}
        return 200, listed[size * (page - 1) : size * page], link


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    github: GitHubServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gives up in the middle is what the faults are for."""


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement of its head
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def _serve(self) -> None:
        github = self.server.github
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        seen = Seen(self.command, self.path, body, {name.lower(): value for name, value in self.headers.items()})
        fault = github.take_fault(seen)
        match fault:
            case None:
                self._answer(*github.carry_out(seen))
            case Silent(effect) | Cut(effect):
                if effect:
                    github.carry_out(seen)
                if isinstance(fault, Silent):
                    github.hold()
                self.close_connection = True
            case Say(status, data, headers, effect):
                if effect:
                    github.carry_out(seen)
                self._write(status, data, headers)
            case Drip():
                if fault.effect:
                    github.carry_out(seen)
                self._drip(fault)
            case Huge(size_bytes, effect, status):
                if effect:
                    github.carry_out(seen)
                self._head(status, size_bytes, {})
                for _ in range(size_bytes // 65536):
                    self.wfile.write(b" " * 65536)
            case Torn():
                status, answer, headers = github.carry_out(seen)
                data = json.dumps(answer).encode()
                self._head(status, len(data), headers)
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - named by http.server

    def _answer(self, status: int, answer: Any, headers: Mapping[str, str]) -> None:
        self._write(status, json.dumps(answer).encode(), headers)

    def _write(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, len(data), headers)
        self.wfile.write(data)

    def _head(self, status: int, size_bytes: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(size_bytes), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, fault: Drip) -> None:
        self.close_connection = True
        head = f"HTTP/1.1 {fault.status} OK\r\nX-Slow: ".encode()
        if not fault.from_the_start:
            self._head(fault.status, 10_000_000, {})
        else:
            for byte in head:
                self.wfile.write(bytes([byte]))
                if self.server.github.hold(fault.every_seconds):
                    return
        while not self.server.github.hold(fault.every_seconds):
            self.wfile.write(b"x")
