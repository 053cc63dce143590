"""Read a row: into its flow's shape and with its identity, or with the code of what is wrong with it."""

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from artifacts.blobs import sha256_of
from contracts.canonical import canonical
from contracts.errors import BadInput, ExpressionFailed
from contracts.excerpts import excerpt
from contracts.floor import Flow
from contracts.instants import FUTURE, BeyondRangeError, instant, parse_instant
from pipeline.intake.arrivals import Arrival, Decision
from pipeline.intake.sources import BadRow, Row
from pipeline.intake.sources.validation import RowValidator
from workcells.shapes import RowRefused
from workcells.shapes.catalogue import Shape

_MOST_CHARS = 500
_MOST_BYTES = 1000
"""A subject key and a revision share a row of an index, which holds 2,704 bytes (PostgreSQL, B-tree limits)."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_row(row: Row | BadRow, flow: Flow, shape: Shape, validator: RowValidator) -> Arrival:
    """Return a row in the flow's shape with its identity, or with the code of what is wrong with it."""
    if isinstance(row, BadRow):
        refusal = Decision("rejected", row.code, row.field, row.message)
        return Arrival(row.row_no, row.line, row.byte_offset, refusal=refusal, excerpt=row.excerpt)
    try:
        value = shape.normalise(row.value)
        problem = validator.first_problem(value)
        if problem is not None:
            raise RowRefused(*problem)
        key, revision = _identity(flow, value)
        body = canonical(value)
        is_context = flow.is_context(value)
    except RowRefused as error:
        return _refused(row, error.instance_code, error.message, error.field)
    except ExpressionFailed as error:
        return _refused(row, "intake.value", f"the flow cannot tell whether this row is context: {error.message}")
    except BadInput as error:
        return _refused(row, "intake.number", error.message)
    title = value.get("title")
    goal = title[:200] if isinstance(title, str) else ""
    return Arrival(row.row_no, row.line, row.byte_offset, key, revision, sha256_of(body), body, goal, is_context, value)


def _refused(row: Row, code: str, message: str, at_field: str = "") -> Arrival:
    shown = excerpt(json.dumps(row.value, ensure_ascii=False).encode(errors="backslashreplace"))
    refusal = Decision("rejected", code, at_field, message)
    return Arrival(row.row_no, row.line, row.byte_offset, refusal=refusal, excerpt=shown)


def _identity(flow: Flow, value: dict[str, Any]) -> tuple[str, str]:
    key = _part(flow.subject_field, value.get(flow.subject_field))
    revision = _part(flow.revision_field, value.get(flow.revision_field))
    _refuse_future(flow.revision_field, revision)
    return key, revision


def _part(name: str, part: Any) -> str:
    if isinstance(part, bool) or not isinstance(part, (str, int)) or not 0 < len(str(part)) <= _MOST_CHARS:
        raise RowRefused("intake.subject", f"/{name}", f"expected a string of 1 to {_MOST_CHARS} characters, or an integer")
    if isinstance(part, str) and not part.isascii():
        if len(part.encode()) > _MOST_BYTES:
            raise RowRefused("intake.subject", f"/{name}", f"is {len(part.encode())} bytes long: expected at most {_MOST_BYTES}")
        # Two spellings of one name would be two subjects that look the same.
        if not unicodedata.is_normalized("NFC", part):
            message = "is not in the composed Unicode form (NFC): another spelling of it would look the same"
            raise RowRefused("intake.subject", f"/{name}", message)
    return str(part)


def _refuse_future(name: str, revision: str) -> None:
    """Raise RowRefused for a revision that no later one could follow: beyond all time, or more than a day ahead."""
    try:
        # A date alone, or one with a shorter time, is compared as text: its day tells.
        at = instant(revision) or (parse_instant(revision[:10]) if _DAY.match(revision) else None)
    except BeyondRangeError:
        raise RowRefused("intake.revision", f"/{name}", f"{revision[:40]} is beyond the years that can be stored") from None
    except ValueError:
        return  # the 31st of February is text like any other
    if at is not None and at > datetime.now(UTC) + FUTURE:
        message = f"{revision[:40]} is more than a day in the future: every later row of this subject would count as older"
        raise RowRefused("intake.revision", f"/{name}", message)
