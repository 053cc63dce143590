"""A signal handler may set the request to stop at any moment."""

import signal
import threading
import time
from typing import Any

import pytest
from pipeline.stopping import StopRequest


def test_a_handler_that_interrupts_the_wait_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    monkeypatch.setattr(stop, "_cond", threading.Condition(threading.Lock()))
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        # The moment at which threading.Event deadlocks: its lock is held by the thread that the handler interrupts.
        lock: Any = stop._cond
        with lock:
            threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1)).start()
            started = time.monotonic()
            assert stop.wait(5)
        assert time.monotonic() - started < 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_wait_that_nobody_ends_lasts_as_long_as_asked() -> None:
    stop = StopRequest()
    started = time.monotonic()
    assert not stop.wait(0.15)
    assert 0.15 <= time.monotonic() - started < 1
    stop.set()
    assert stop.is_set()
    assert stop.wait()
