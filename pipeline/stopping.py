"""The request to stop that a signal makes of a long-running process."""

import threading
import time

_POLL_SECONDS = 0.1


class StopRequest(threading.Event):
    """An event that a signal handler may set.

    Python runs a handler in the main thread, in the middle of whatever it does. `threading.Event` has a lock that is not reentrant:
    a handler that sets the event while the main thread is inside its `wait` waits for itself for ever. This one takes no lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_requested = False

    def is_set(self) -> bool:
        """Return whether the process was told to stop."""
        return self._is_requested

    def set(self) -> None:
        """Tell the process to stop; safe in a signal handler."""
        self._is_requested = True

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether the process was told to stop, after at most `timeout` seconds; noticed within 0.1 s."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_requested:
            left = _POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, _POLL_SECONDS))
        return self._is_requested
