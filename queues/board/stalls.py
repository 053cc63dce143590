"""Stalls: work in a lane that could move and does not, in words, with what to type."""

from collections.abc import Callable
from typing import NamedTuple

IDLE_SECONDS = 60.0
"""A served lane whose oldest ready item waits longer than this, while nothing moves in it, is stalled."""
RETURNED_LEAST = 20
"""Fewer items that come back unfinished within the window are the end of a claim or of a worker."""
RETURNED_TIMES = 3
"""Items that come back more often than this, each, within the window while none is finished are stalled."""


class Stall(NamedTuple):
    """Why work does not move, and what to type against it."""

    words: str
    remedy: str


class Situation(NamedTuple):
    """What is known of one lane."""

    lane: str
    workers: int
    ready: int
    """Due, unpaused and under every limit."""
    unserved: int
    """Of these, how many no live worker may take."""
    silent: int
    overdue: int
    """Items whose lease has ended."""
    depth: int
    """Items that a worker has to do something about."""
    finished: int
    returned: int
    """Items that came back unfinished within the window; `finished` and `failed` left it."""
    failed: int
    is_moving: bool
    oldest_ready_seconds: float


def find_stall(now: Situation, is_in_floor: Callable[[str], bool]) -> Stall | None:
    """Return why work of a lane does not move; None when it does, or there is none.

    `is_in_floor` tells whether a flow of the floor in force uses a lane; it is asked only of lanes that nobody serves.
    """
    if now.overdue:
        return Stall(f"the leases of {count(now.overdue, 'item')} ended and no sweeper recovered them", "shopfloor sweeper")
    if now.unserved and now.workers:
        return Stall(f"{_are(now.unserved)} pinned to a contract version that no live worker has the code for", "shopfloor contract list")
    if now.unserved and not is_in_floor(now.lane):
        return Stall(
            f"no flow of the floor in force uses it, so no worker serves it: {_are(now.unserved)} ready; "
            "apply a floor with a flow that does, or cancel them",
            f"shopfloor cancel --lane {now.lane} --dry-run",
        )
    if now.unserved:
        return Stall(f"no live worker serves it: {_are(now.unserved)} ready", serve_command(now.lane))
    if now.silent:
        leased = "a leased item" if now.silent == 1 else f"{now.silent} leased items"
        return Stall(
            f"the worker of {leased} sends no heartbeat; when the lease ends another takes over",
            f"shopfloor items --lane {now.lane} --reason silent",
        )
    if now.returned >= max(RETURNED_LEAST, RETURNED_TIMES * now.depth) and not now.finished + now.failed:
        return Stall(
            f"items were claimed and given back {now.returned} times in the last minutes, and none was finished",
            f"shopfloor items --lane {now.lane}",
        )
    if now.ready and not now.is_moving and now.oldest_ready_seconds > IDLE_SECONDS:
        serve = (
            "1 live worker serves it and does not take work" if now.workers == 1 else f"none of its {now.workers} live workers takes work"
        )
        return Stall(f"{serve}: the doorbell does not reach it", "shopfloor doctor")
    return None


def serve_command(lane: str) -> str:
    """Return the command that starts a worker for a lane of the floor in force."""
    return "shopfloor worker --lanes apply" if lane.startswith("apply.") else "shopfloor up"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 item`, `3 items`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _are(items: int) -> str:
    return "1 item is" if items == 1 else f"{items:,} items are"
