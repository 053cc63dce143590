"""Waiting in tests: on a condition, with a deadline that fails."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], *, seconds: float = 30, what: Callable[[], object] = lambda: "it did not become true") -> None:
    """Return as soon as `holds()`; fail after `seconds`, saying `what()`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.02)
