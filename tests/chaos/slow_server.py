"""A server that takes its time, over real HTTP: how long for each path, and who asked when."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SlowServer:
    """Answers `GET /KEY` after `seconds` of that key."""

    def __init__(self, seconds: float) -> None:
        self.seconds: dict[str, float] = {}
        self.default_seconds = seconds
        self.asked: list[str] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        key = request.path.strip("/")
        with self._lock:
            self.asked.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self.seconds.get(key, self.default_seconds))
        with self._lock:
            self._now -= 1
        try:
            request.send_response(200)
            request.send_header("content-length", "2")
            request.end_headers()
            request.wfile.write(b"ok")
        except OSError:
            pass  # who asked is gone

    @contextmanager
    def serving(self) -> Iterator["SlowServer"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()
