"""Attempts: whether work whose attempt failed is tried again, and when. The one policy: whoever ends an attempt asks it."""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Cause(StrEnum):
    """Why an attempt did not end well. Each cause has a counter and a ceiling of its own."""

    CRASH = "crash"
    TRANSIENT = "transient"
    THROTTLE = "throttle"
    CONTRACT = "contract"
    QA = "qa"
    DRIFT = "drift"


CEILINGS: dict[Cause, int] = {
    Cause.CRASH: 3,
    Cause.TRANSIENT: 8,
    Cause.THROTTLE: 50,
    Cause.CONTRACT: 2,
    Cause.QA: 2,
    Cause.DRIFT: 3,
}
"""Attempts that may end for a cause before the item does; a contract may set others."""

BASE_SECONDS = {Cause.CRASH: 1.0, Cause.TRANSIENT: 1.0, Cause.THROTTLE: 5.0, Cause.CONTRACT: 0.0, Cause.QA: 0.0, Cause.DRIFT: 0.0}
CAP_SECONDS = 300.0

Ceilings = Mapping[Cause, int] | Mapping[str, int] | None
"""What a contract says of attempts, by cause; None, or a cause left out, means the default."""

_JITTER = random.Random()


class NextAttempt(NamedTuple):
    """What follows a failed attempt: another after `delay_seconds`, or none when that was the last."""

    is_last: bool
    delay_seconds: float


def ceiling_of(cause: Cause, ceilings: Ceilings) -> int:
    """Return how many attempts may end for a cause under a contract."""
    return (ceilings or {}).get(cause.value, CEILINGS[cause])  # type: ignore[call-overload]


def is_exhausted(cause: Cause, failed: int, ceilings: Ceilings) -> bool:
    """Return whether no attempt is left after `failed` of them ended for a cause."""
    return failed >= ceiling_of(cause, ceilings)


def next_attempt(cause: Cause, failed: int, ceilings: Ceilings, *, after_seconds: float | None = None) -> NextAttempt:
    """Return what follows when the `failed`-th attempt has just ended for a cause.

    `after_seconds` replaces the backoff where somebody said when to come back, such as a target that throttles.
    """
    if is_exhausted(cause, failed, ceilings):
        return NextAttempt(True, 0.0)
    return NextAttempt(False, backoff_seconds(cause, failed) if after_seconds is None else after_seconds)


def backoff_seconds(cause: Cause, failed: int) -> float:
    """Return how long to wait after the n-th failed attempt of a cause: capped exponential with equal jitter.

    Rule: uniform(half, whole) of base · 2^(n-1), at most five minutes ("Exponential Backoff And Jitter", AWS 2015).
    """
    whole = min(CAP_SECONDS, BASE_SECONDS[cause] * 2 ** min(max(0, failed - 1), 16))
    return _JITTER.uniform(whole / 2, whole)
