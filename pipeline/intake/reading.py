"""Reading a row: into its flow's shape and with its identity, or with the code of what is wrong with it."""

import json
import unicodedata
from typing import Any

from artifacts.blobs import sha256_of
from contracts.canonical import canonical
from contracts.errors import BadInput, ExpressionFailed
from contracts.excerpts import excerpt
from contracts.floor import Flow
from pipeline.intake.arrivals import Arrival
from pipeline.intake.sources import BadRow, Row
from pipeline.intake.sources.validation import RowValidator
from workcells.shapes import RowRefused
from workcells.shapes.catalogue import Shape


def read_row(row: Row | BadRow, flow: Flow, shape: Shape, validator: RowValidator) -> Arrival:
    """Return a row in the flow's shape with its identity, or with the code of what is wrong with it."""
    arrival = Arrival(row.row_no, row.line, row.byte_offset)
    if isinstance(row, BadRow):
        arrival.outcome, arrival.code, arrival.field, arrival.message = "rejected", row.code, row.field, row.message
        arrival.excerpt = row.excerpt
        return arrival
    try:
        value = shape.normalise(row.value)
        problem = validator.first_problem(value)
        if problem is not None:
            raise RowRefused(*problem)
        arrival.subject_key, arrival.revision = _identity(flow, value)
        arrival.body = canonical(value)
        arrival.is_context = flow.is_context(value)
    except RowRefused as error:
        return _refused(arrival, row, error.instance_code, error.message, error.field)
    except ExpressionFailed as error:
        return _refused(arrival, row, "intake.value", f"the flow cannot tell whether this row is context: {error.message}")
    except BadInput as error:
        return _refused(arrival, row, "intake.number", error.message)
    title = value.get("title")
    arrival.goal = title[:200] if isinstance(title, str) else ""
    arrival.sha256 = sha256_of(arrival.body)
    arrival.value = value
    return arrival


def _refused(arrival: Arrival, row: Row, code: str, message: str, at_field: str = "") -> Arrival:
    arrival.outcome, arrival.code, arrival.field, arrival.message = "rejected", code, at_field, message
    arrival.subject_key = arrival.revision = ""
    arrival.body = b""
    arrival.excerpt = excerpt(json.dumps(row.value, ensure_ascii=False).encode(errors="backslashreplace"))
    return arrival


def _identity(flow: Flow, value: dict[str, Any]) -> tuple[str, str]:
    key, revision = value.get(flow.subject_field), value.get(flow.revision_field)
    for name, part in ((flow.subject_field, key), (flow.revision_field, revision)):
        if isinstance(part, bool) or not isinstance(part, (str, int)) or not 0 < len(str(part)) <= 500:
            raise RowRefused("intake.subject", f"/{name}", "expected a string of 1 to 500 characters, or an integer")
        # Two spellings of one name would be two subjects that nobody can tell apart.
        if isinstance(part, str) and not part.isascii() and not unicodedata.is_normalized("NFC", part):
            message = "is not in the composed Unicode form (NFC): another spelling of it would look the same"
            raise RowRefused("intake.subject", f"/{name}", message)
    return str(key), str(revision)
