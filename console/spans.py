"""Lengths of time and instants, as people type them."""

import re
from datetime import datetime, timedelta

from contracts.errors import BadInput
from contracts.instants import parse_instant

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw]?)", re.ASCII)
_MOST_SECONDS = 10 * 366 * 86400


def seconds_of(text: str) -> float:
    """Return the seconds of `90`, `90s`, `15m`, `2h`, `3d` or `1w`. Raises BadInput."""
    match = _SPAN.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else -1
    if not 0 <= seconds <= _MOST_SECONDS:
        raise BadInput(f"{text[:40]!r} is not a length of time: expected something like 90s, 15m, 2h or 3d")
    return seconds


def instant_of(text: str, *, now: datetime) -> datetime:
    """Return the aware instant of a length of time from `now`, or of an ISO 8601 date and time. Raises BadInput."""
    try:
        return now + timedelta(seconds=seconds_of(text))
    except BadInput:
        pass
    try:
        at = datetime.fromisoformat(text.strip())
        # Without an offset it is the time on this person's clock.
        return parse_instant((at if at.tzinfo else at.astimezone()).isoformat())
    except (ValueError, OverflowError):
        raise BadInput(f"{text[:40]!r} is not a time: expected something like 2h, or 2026-01-31T18:00+01:00") from None
