"""A pool of connections for threads that need one for a moment only."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from queues.database import Connection


class ConnectionPool:
    """Lends up to `most` connections, each made when it is first needed; who comes when all are lent waits for one.

    psycopg_pool makes its own from an address; ours come from a function that checks the login and the schema.
    """

    def __init__(self, connect: Callable[[], Connection], most: int) -> None:
        self._connect = connect
        self._places = threading.BoundedSemaphore(most)
        self._free: list[Connection] = []

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Yield a connection outside any transaction. One that broke is not lent again."""
        with self._places:
            try:
                conn = self._free.pop()
            except IndexError:
                conn = self._connect()
            try:
                yield conn
            finally:
                if not conn.closed:
                    self._free.append(conn)

    def close(self) -> None:
        """Close those that are not lent."""
        with suppress(IndexError):
            while True:
                self._free.pop().close()
