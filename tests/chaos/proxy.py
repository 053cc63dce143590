"""A proxy before PostgreSQL that passes a COMMIT on and loses the answer."""

import contextlib
import random
import select
import socket
import threading
from pathlib import Path

_CLIENT_BYTES = 65_536
_COMMIT = b"COMMIT\x00"


class LossyProxy:
    """Listens on a socket folder as a PostgreSQL server would, and cuts some sessions after their COMMIT was carried out."""

    PORT = 5439

    def __init__(self, folder: Path, server: Path, *, share: float, seed: int) -> None:
        self.folder, self._server, self._share = folder, server, share
        self.lost = 0
        self._choose = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        folder.mkdir(exist_ok=True)
        path = folder / f".s.PGSQL.{self.PORT}"
        self._listener.bind(str(path))
        path.chmod(0o777)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Lose no answer from now on."""
        with self._lock:
            self._share = 0.0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _is_due(self) -> bool:
        with self._lock:
            due = self._choose.random() < self._share
            self.lost += due
            return due

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), client, server:
            server.connect(str(self._server))
            losing = False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    said = client.recv(_CLIENT_BYTES)
                    if not said:
                        return
                    losing = losing or (_COMMIT in said and self._is_due())
                    server.sendall(said)
                if server in ready:
                    said = server.recv(_CLIENT_BYTES)
                    if not said:
                        return
                    # ReadyForQuery "idle" ends the answer: now the server has committed, and nobody will hear of it.
                    if losing and said.endswith(b"Z\x00\x00\x00\x05I"):
                        return
                    if not losing:
                        client.sendall(said)
