"""Pace: how many items of a lane are worked on between two commits, so that a slow one delays neither people nor others."""

import time

GROUP_SECONDS = 0.5
"""About as long as one group may take: a pause, a drain and a finished neighbour's commit wait no longer for it."""
CLAIM_SECONDS = 10.0
"""About as much work as one claim may hold: the rest stays in the lane, for whoever is free."""
LATE_SECONDS = 2.0
"""After this a group that turns out slower than any before it stops where it is."""
QUICK_SECONDS = 0.05
"""Below this an item is quick: a commit of its own for each stage would cost more than anybody gains by it."""
_FIRST = 8
"""Items of the first group of a lane of which nothing is known yet."""
_OVERHEAD_SECONDS = 0.25
"""What a group may cost however small it is; without it, single items in a process that is cold or idle would look slow."""


class Pace:
    """What the items of each lane took of late. One per worker thread: never shared."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = 0.0

    def claim(self, lane: str, most: int) -> int:
        """Return how many items of a lane to claim, at most `most`."""
        return max(1, min(most, int(CLAIM_SECONDS / self._seconds[lane]))) if lane in self._seconds else most

    def is_quick(self, lane: str) -> bool:
        """Return whether the items of a lane are known to take so little that nobody will look for one while it is worked on."""
        return self._seconds.get(lane, QUICK_SECONDS) < QUICK_SECONDS

    def group(self, lane: str) -> int:
        """Return how many items of a lane to work on before the next commit, and start its clock."""
        self._since = time.monotonic()
        return max(1, int(GROUP_SECONDS / self._seconds[lane])) if lane in self._seconds else _FIRST

    def is_late(self) -> bool:
        """True when the group in hand has taken so long that what it has not begun should wait for another."""
        return time.monotonic() - self._since > LATE_SECONDS

    def note(self, lane: str, items: int) -> None:
        """Learn from the group that just ended: at once when it was slow, by and by when it was quick."""
        took = max(time.monotonic() - self._since - _OVERHEAD_SECONDS, 1e-6) / max(items, 1)
        known = self._seconds.get(lane, took)
        self._seconds[lane] = took if took > known else (known + took) / 2
