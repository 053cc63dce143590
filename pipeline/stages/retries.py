"""Failed attempts: what an error counts as, and the step that follows from it."""

import re
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from artifacts.shelf import Attempt, Record
from contracts.attempts import Cause, Ceilings, next_attempt
from contracts.errors import ShopfloorError, StoreUnavailable
from pipeline.stages.work import Step, Work, stay
from queues.claims import Claimed
from queues.mover import COUNTERS

_MOST_CHARS = 4000
_SECRET = re.compile(
    r"(?P<kept>://[^\s:/@]*:)[^\s@/]+(?=@)"
    r"|(?P<word>\b(?:authorization|api[_-]?key|password|passwd|secret|token)\b[\"']?\s*[=:]\s*(?:bearer\s+)?)[^\s,;)\]}]+"
    r"|\bbearer\s+\S+|\b(?:shf|gh[pousr]|github_pat|sk|xox[abp])[_-][A-Za-z0-9_-]{8,}",
    re.IGNORECASE,
)


def failed_count(claimed: Claimed, cause: Cause) -> int:
    """Return how many of an item's attempts have ended for a cause so far."""
    count: int = getattr(claimed, COUNTERS[cause])
    return count


def with_one_more(claimed: Claimed, cause: Cause) -> Claimed:
    """Return the item with one more attempt ended for a cause."""
    counters: dict[str, Any] = {COUNTERS[cause]: failed_count(claimed, cause) + 1}
    return claimed._replace(**counters)


def cause_of(error: Exception) -> Cause:
    """Return what an unforeseen error counts as: a full store is waited for, as a target is that wants fewer requests."""
    return Cause.THROTTLE if isinstance(error, StoreUnavailable) else Cause.TRANSIENT


def message_of(error: Exception) -> str:
    """Return what an error says, secrets blanked out, in at most 500 characters; with its kind where it is not one of ours."""
    return _clean(str(error) if isinstance(error, ShopfloorError) else f"{type(error).__name__}: {error}")[:500]


def failed_attempt(
    work: Work, cause: Cause, message: str, ceilings: Ceilings, *, after_seconds: float | None = None, records: Sequence[Record] = ()
) -> Step:  # fmt: skip
    """Return the step that ends an attempt for a cause: a retry after a backoff, or the item's burial when it was the last."""
    then = next_attempt(cause, failed_count(work.claimed, cause) + 1, ceilings, after_seconds=after_seconds)
    note = f"{cause}: {message}"[:300]
    if then.is_last:
        return stay(work, "bury", note=note, cause=cause, finding=f"dead.{cause}", records=records)
    return stay(work, "retry", note=note, cause=cause, delay_seconds=then.delay_seconds, records=records)


def raised_attempt(work: Work, started: datetime, error: BaseException, message: str, cause: Cause) -> Attempt:
    """Return the record of an execution that raised, with its traceback."""
    claimed = work.claimed
    return Attempt(
        work.item_id, work.fence, claimed.workspace_id, work.contract_id, started, datetime.now(UTC), work.stage.value,
        "accident", cause.value, claimed.payload_sha256, None, message, traceback_of(error),
    )  # fmt: skip


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback, secrets blanked out, its innermost part when it is longer than 4,000 characters."""
    text = _clean("".join(traceback.format_exception(error, limit=-30)))
    return text if len(text) <= _MOST_CHARS else "…" + text[1 - _MOST_CHARS :]


def _clean(text: str) -> str:
    """Return a text without secrets, and without what the database cannot hold: NUL, and surrogates that stand alone."""
    text = _SECRET.sub(lambda found: (found["kept"] or found["word"] or "") + "***", text)
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def places_of(error: BaseException) -> list[str]:
    """Return the four innermost places that an error came through, the last one being where it was raised.

    For logs: where, not what, because the message of an error may hold what people wrote.
    """
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
