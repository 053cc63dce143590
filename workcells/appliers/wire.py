"""HTTP to one address, under one deadline for everything: resolving, connecting, TLS, every request, every byte.

Built on httpcore, the network layer of httpx, because there the deadline can be handed to each socket call: a server
that sends a byte a second never exceeds a time-out for a single read.

What it does not do, on purpose: follow redirects; read HTTP_PROXY, HTTPS_PROXY, NO_PROXY, .netrc or SSL_CERT_FILE (a
credential goes to the configured address and nowhere else); accept compressed answers; reuse a connection between calls
(an idle one that the server has just closed makes "was it sent?" unanswerable); try anything twice.
"""

import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpcore
from contracts.excerpts import visible
from workcells.appliers import SendUnknown, TargetUnavailable

CONNECT_SECONDS = 10.0
CHUNK_BYTES = 16 * 1024

_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout, httpcore.UnsupportedProtocol)
_CUT = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Deadline:
    """An instant on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, late: type[Exception]) -> float:
        """Return the seconds that are left. Raises `late` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise late(f"the deadline of {self.seconds:g} s has passed")
        return left


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is None when the status and headers arrived and the rest did not, or was too large."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: str = ""
    """Why there is no body."""

    def json(self) -> Any:
        """Return the parsed body, None when there is none or it is not JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except (ValueError, RecursionError):
            return None


class Conversation:
    """The requests of one call to a target, in order, over one connection; use with `with`."""

    def __init__(
        self,
        origin: httpcore.URL,
        *,
        seconds: float,
        max_bytes: int,
        headers: Mapping[str, str],
        trust: ssl.SSLContext | None,
    ) -> None:
        self._origin = origin
        self._deadline = Deadline(seconds)
        self._max_bytes = max_bytes
        given = {"Accept-Encoding": "identity", **headers}
        self._headers: list[tuple[bytes | str, bytes | str]] = list(given.items())
        self._pool = httpcore.ConnectionPool(ssl_context=trust, network_backend=_Network(self._deadline), max_connections=1, retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.close()

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Return the answer to one request.

        Raises TargetUnavailable when the request certainly had no effect (never sent, or a GET), and SendUnknown when
        it may have had one. Once a status line has come back for anything but a GET, there is always an answer.
        """
        reading = method == "GET"
        content = None if body is None else json.dumps(body).encode()
        headers = list(self._headers)
        if content is not None:
            headers.append((b"Content-Type", b"application/json"))
        url = httpcore.URL(
            scheme=self._origin.scheme,
            host=self._origin.host,
            port=self._origin.port,
            target=self._origin.target.rstrip(b"/") + path.encode("ascii"),
        )
        place = f"{method} {visible(path)[:100]} at {self._origin.host.decode('ascii', 'replace')}"
        try:
            self._deadline.left(httpcore.ConnectTimeout)  # used up by the requests before: this one is not even begun
            with self._pool.stream(method, url, headers=headers, content=content) as response:
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                answer = self._read(response, names)
        except _NOT_SENT as error:
            raise TargetUnavailable(f"{place} was not sent: {_why(error)}") from error
        except _CUT as error:
            if reading:
                raise TargetUnavailable(f"{place} got no answer: {_why(error)}") from error
            raise SendUnknown(f"{place} was sent and not answered: {_why(error)}") from error
        if reading and answer.body is None:
            raise TargetUnavailable(f"{place} answered {answer.status} and what cannot be read: {answer.cut}")
        return answer

    def _read(self, response: httpcore.Response, names: Mapping[str, str]) -> Answer:
        """Return the answer with as much of a body as is allowed: whole, or none."""
        status = response.status
        if names.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            return Answer(status, names, None, "it is compressed, although identity was asked for")
        parts: list[bytes] = []
        size = 0
        try:
            for part in response.iter_stream():
                size += len(part)
                if size > self._max_bytes:
                    return Answer(status, names, None, f"it is larger than {self._max_bytes} bytes")
                parts.append(part)
        except _CUT as error:
            return Answer(status, names, None, f"it ended early: {_why(error)}")
        return Answer(status, names, b"".join(parts))


class _Stream(httpcore.NetworkStream):
    """A socket whose every call gets what is left of the deadline as its time-out."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline is nearer
        return self._inner.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - likewise
        # The inner write gives each partial send the whole time-out, so it gets small pieces.
        for start in range(0, len(buffer), CHUNK_BYTES):
            self._inner.write(buffer[start : start + CHUNK_BYTES], self._deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = min(self._deadline.left(httpcore.ConnectTimeout), CONNECT_SECONDS)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Connects within the deadline, resolving names on a thread that can be left behind."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is nearer
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        refused: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._resolve(host, port):
            seconds = min(self._deadline.left(httpcore.ConnectTimeout), CONNECT_SECONDS)
            try:
                stream = self._sockets.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refused = error
                continue
            return _Stream(stream, self._deadline)
        raise refused

    def _resolve(self, host: str, port: int) -> list[str]:
        # getaddrinfo takes no time-out and cannot be interrupted; its thread is a daemon and dies with the process.
        found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))
            except (OSError, UnicodeError) as error:
                found.put(error if isinstance(error, OSError) else OSError(str(error)))

        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        seconds = min(self._deadline.left(httpcore.ConnectTimeout), CONNECT_SECONDS)
        try:
            addresses = found.get(timeout=seconds)
        except queue.Empty:
            raise httpcore.ConnectTimeout(f"{host} did not resolve within {seconds:.0f} s") from None
        if isinstance(addresses, OSError):
            raise httpcore.ConnectError(f"{host} does not resolve: {addresses.strerror or addresses}") from addresses
        return addresses


def _why(error: Exception) -> str:
    return visible(str(error))[:120] or type(error).__name__
