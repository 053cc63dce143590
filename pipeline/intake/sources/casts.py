"""What a CSV field becomes under the type that the flow declares for its column."""

import re
from collections.abc import Callable, Mapping

from contracts.errors import BadInput
from contracts.excerpts import printable
from contracts.instants import RANGE, BeyondRangeError, parse_instant
from pipeline.intake.sources.json_text import parse_text
from pipeline.intake.sources.rows import Problem

Cast = Callable[[str, int], object]
"""Takes a field that is not empty and the depth limit; returns its value or a Problem."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_FRACTION = re.compile(r"\.[0-9]+")


def casts_for(columns: list[str], casts: Mapping[str, str], *, name: str) -> list[tuple[str, Cast]]:
    """Return the columns to cast, in order. Raises BadInput for a type or a column that is not there."""
    for column, kind in casts.items():
        if kind not in _CASTS:
            raise BadInput(
                f"column '{printable(column)}' is declared '{printable(kind)}': expected one of {', '.join(_CASTS)}",
                hint="columns without a declared type are text",
            )
        if column not in columns:
            raise BadInput(
                f"{name} has no column '{printable(column)}', for which the type {kind} is declared; "
                f"it has: {printable(', '.join(columns), 200)}"
            )
    return [(column, _CASTS[casts[column]]) for column in columns if column in casts]


def _to_integer(text: str, depth: int) -> object:
    if not _INTEGER.match(text):
        return _unfit(text, "a whole number without leading zeros")
    return _numeric(parse_text(text, depth=depth))


def _to_number(text: str, depth: int) -> object:
    value = parse_text(text, depth=depth)
    if isinstance(value, Problem) and value.code == "intake.number":
        return _numeric(value)
    if type(value) not in (int, float) or text.strip() != text:
        return _unfit(text, "a number such as 12 or -3.5e2")
    return value


def _to_boolean(text: str, _depth: int) -> object:
    if text == "true":
        return True
    return False if text == "false" else _unfit(text, "true or false")


def _to_json(text: str, depth: int) -> object:
    value = parse_text(text, depth=depth)
    if isinstance(value, Problem) and value.code in ("intake.json", "intake.encoding"):
        place = f"character {value.at_byte} of the field"
        return value._replace(code="intake.cast", message=value.message.replace("byte {byte}", place, 1), at_byte=0)
    return value


def _to_instant(text: str, _depth: int) -> object:
    """Return `text` itself, once it is known to be an instant that exists."""
    if not _INSTANT.match(text):
        return _unfit(text, "a date and time with its offset, such as 2024-02-29T08:00:00Z")
    try:
        # Fractions are cut for the check only: datetime holds six digits.
        parse_instant(_FRACTION.sub("", text).upper().replace(" ", "T"))
    except BeyondRangeError:
        return _unfit(text, f"a date and time from {RANGE}")
    except ValueError:
        return _unfit(text, "a date and time that exists")
    return text


def _numeric(value: object) -> object:
    return value._replace(at_byte=0) if isinstance(value, Problem) else value


def _unfit(text: str, expected: str) -> Problem:
    return Problem("intake.cast", "", f"expected {expected}, got '{printable(text, 40)}'")


_CASTS: dict[str, Cast] = {
    "int": _to_integer,
    "number": _to_number,
    "bool": _to_boolean,
    "json": _to_json,
    "timestamp": _to_instant,
}
