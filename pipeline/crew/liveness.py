"""Liveness: a supervised process reports through a pipe that its Python still runs, and that it is ready.

A pipe and not the database: the report goes on while PostgreSQL is away. A thread writes it, so it stops with whatever stops
Python itself: a step inside C that never lets go of the interpreter, SIGSTOP, a process that swaps.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable

FD_VARIABLE = "_SHOPFLOOR_LIVENESS_FD"
"""Names the writing end of the pipe to the process that inherits it."""
REPORT_SECONDS = 0.5
_ALIVE, _READY = b".", b"r"
_MOST_COUNTED_SECONDS = 1.0


def report_liveness() -> Callable[[], object]:
    """Report from now on that this process lives, where a crew asked for it; return what reports that it is ready."""
    text = os.environ.pop(FD_VARIABLE, "")
    if not text:
        return lambda: None
    pipe = int(text)
    os.set_inheritable(pipe, False)
    os.set_blocking(pipe, False)

    def report(byte: bytes) -> bool:
        try:
            os.write(pipe, byte)
        except BlockingIOError:
            pass  # a crew that was frozen for hours: the pipe is full of reports
        except OSError:
            return False  # the crew is gone
        return True

    def report_for_ever() -> None:
        while report(_ALIVE):
            time.sleep(REPORT_SECONDS)

    threading.Thread(target=report_for_ever, name="liveness", daemon=True).start()
    return lambda: report(_READY)


class Liveness:
    """The crew's end of the pipe: for how long nothing was reported, and whether the process is ready."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.is_ready = False
        self.has_reported = False
        self.silent_seconds = 0.0
        """Seconds without a report, of those that the crew was there to listen."""

    def close_writer(self) -> None:
        """Leave the writing end to the process that inherited it."""
        os.close(self.writer)

    def listen(self, elapsed_seconds: float) -> None:
        """Take in what was reported since the last call, `elapsed_seconds` ago.

        However long the crew itself stood still (a suspended machine, a debugger), that counts as one second of silence.
        """
        heard = b""
        with contextlib.suppress(BlockingIOError):
            heard = os.read(self._reader, 65_536)
        self.is_ready = self.is_ready or _READY in heard
        self.has_reported = self.has_reported or bool(heard)
        self.silent_seconds = 0.0 if heard else self.silent_seconds + min(elapsed_seconds, _MOST_COUNTED_SECONDS)

    def close(self) -> None:
        """Close the reading end."""
        os.close(self._reader)
