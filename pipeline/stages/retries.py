"""Accidents: how long to wait before the next attempt, and when there is none."""

import random
from typing import Any

from contracts.attempts import Cause
from contracts.errors import StoreUnavailable
from pipeline.stages.work import Step, Work, stay
from queues.claims import Claimed
from queues.mover import COUNTERS

BASE_SECONDS = {Cause.CRASH: 1.0, Cause.TRANSIENT: 1.0, Cause.THROTTLE: 5.0, Cause.CONTRACT: 0.0, Cause.QA: 0.0, Cause.DRIFT: 0.0}
CAP_SECONDS = 300.0

_JITTER = random.Random()


def backoff_seconds(cause: Cause, attempts: int) -> float:
    """Return how long to wait after the n-th accident of a cause: capped exponential with equal jitter.

    Rule: uniform(half, whole) of base · 2^(n-1), at most five minutes ("Exponential Backoff And Jitter", AWS 2015).
    """
    whole = min(CAP_SECONDS, BASE_SECONDS[cause] * 2 ** max(0, attempts - 1))
    return _JITTER.uniform(whole / 2, whole)


def counted(claimed: Claimed, cause: Cause) -> int:
    """Return how often an item's attempts have ended for a cause so far."""
    count: int = getattr(claimed, COUNTERS[cause])
    return count


def counted_once_more(claimed: Claimed, cause: Cause) -> Claimed:
    """Return the item with one more attempt ended for a cause."""
    once_more: dict[str, Any] = {COUNTERS[cause]: counted(claimed, cause) + 1}
    return claimed._replace(**once_more)


def cause_of(error: Exception) -> Cause:
    """Return what an unforeseen error of a step counts as: a store that is full is waited for, as a target that asks for quiet is."""
    return Cause.THROTTLE if isinstance(error, StoreUnavailable) else Cause.TRANSIENT


def accident(work: Work, cause: Cause, message: str, *, ceiling: int, after_seconds: float | None = None) -> Step:
    """Return a retry after a backoff, or the item's burial when this was its last attempt for the cause."""
    attempts = counted(work.claimed, cause) + 1
    note = f"{cause}: {message}"[:300]
    if attempts >= ceiling:
        return stay(work, "bury", note=note, cause=cause, finding=f"dead.{cause}")
    delay = backoff_seconds(cause, attempts) if after_seconds is None else after_seconds
    return stay(work, "retry", note=note, cause=cause, delay_seconds=delay)
