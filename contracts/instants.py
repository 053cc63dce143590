"""Instants as text: the one place where a date and time becomes a value, and the range that every part of the system can hold."""

from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)
"""Python ends at the years 1 and 9999, in whatever zone an instant is shown; PostgreSQL holds more and would hand it back."""
RANGE = f"{EARLIEST.date().isoformat()} to {LATEST.date().isoformat()}"
FUTURE = timedelta(days=1)
"""How far ahead of now a revision may lie: clocks differ, and zones are confused."""
_LEAST_CHARS = 19


class BeyondRangeError(ValueError):
    """A date and time that exists and that not every part of the system can hold."""


def parse_instant(text: str) -> datetime:
    """Return the instant that ISO 8601 text means, in UTC; UTC as well when it names no offset.

    Raises ValueError for any other text, BeyondRangeError for one before EARLIEST or after LATEST.
    """
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise BeyondRangeError(text) from None
    if not EARLIEST <= at <= LATEST:
        raise BeyondRangeError(text)
    return at


def instant(text: str) -> datetime | None:
    """Return the instant that a revision is, in UTC; None for any other text, a date alone included.

    Raises BeyondRangeError for an instant that cannot be held.
    """
    if len(text) < _LEAST_CHARS:
        return None
    try:
        return parse_instant(text)
    except BeyondRangeError:
        raise
    except ValueError:
        return None


def as_text(at: datetime) -> str:
    """Return an aware instant as `YYYY-MM-DDTHH:MM:SSZ`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
