"""JSON that is read strictly: what two readers could understand differently is refused.

The standard library's C scanner is the only reader here. A faster one (orjson) merges duplicate keys and turns long
integers into floats without a word; proving after the fact that it did neither costs half of what it saves.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from contracts.excerpts import pointer_part, printable
from pipeline.intake.sources.rows import Piece, Problem

_WHITE = " \t\r\n"
_INTEGER_DIGITS = 4300
_CONTAINERS = 500_000
"""Three bytes of text, `[],`, make a hundred bytes of memory: the size limit alone does not bound a row."""
_INFINITE = float("inf")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.?)*+("|\Z)|[\[\]{}]', re.DOTALL)
_LONE_SURROGATE = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL)
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def parse_object(piece: Piece, *, depth: int) -> dict[str, Any] | Problem:
    """Return the object that `piece` holds, or why it is rejected. Places in messages are bytes of the stream."""
    raw = piece.raw
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return _not_utf8(piece, error)
    value = parse_text(text, depth=depth)
    if type(value) is dict:
        return value
    if isinstance(value, Problem):
        if value.code == "intake.json" and not piece.is_ended and _is_open_at_end(text):
            return Problem("intake.truncated", "", "the file ends inside this row", len(raw))
        if value.at_byte < 0:
            return value._replace(at_byte=0)
        # The scanner counts characters, people seek by bytes.
        at_byte = len(text[: value.at_byte].encode())
        return value._replace(message=value.message.replace("{byte}", str(piece.byte_offset + at_byte), 1), at_byte=at_byte)
    hint = "; a file that is one array has the format json" if type(value) is list else ""
    return Problem("intake.not_object", "", f"expected an object, got {kind_of(value)}{hint}")


def parse_text(text: str, *, depth: int) -> object:
    """Return the JSON value of `text`, or a Problem that says why it is rejected.

    A problem of syntax carries its character in `at_byte` and the placeholder `{byte}` in its message; the
    others carry -1 and a field.
    """
    # Brackets inside strings count too, so only a row with many pays for the exact look.
    if text.count("{") + text.count("[") > depth and (problem := _too_nested(text, depth)):
        return problem
    lead = len(text) - len(text.lstrip(_WHITE)) if text[:1] in _WHITE else 0
    try:
        value, end = _STRICT(text, lead)
    except json.JSONDecodeError as error:
        return _syntax(text, error.pos, error.msg)
    except ValueError:
        return _locate(text, lead)
    if end != len(text) and text[end:].strip(_WHITE):
        end += len(text[end:]) - len(text[end:].lstrip(_WHITE))
        return _syntax(text, end, "Expecting the end of the row")
    if "\\u" in text:
        # Escaped backslashes out of the way, then what looks like an escape is one.
        escapes = text.replace("\\\\", "  ") if "\\\\" in text else text
        if "\\u0000" in escapes or _LONE_SURROGATE.search(escapes):
            return next(_oddities(value, ""), value)
    return value


def kind_of(value: object) -> str:
    """Return what `value` is in the words of JSON, such as `an array`."""
    return "null" if value is None else _NAMES.get(type(value), "another value")


class _OddError(ValueError):
    """Ends the quick reading; the marking reader then finds the place."""


class _Mark:
    """Stands in a marked document where a value cannot be taken."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _OddError
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if -_INFINITE < number < _INFINITE:
        return number
    raise _OddError


def _refuse_constant(_name: str) -> object:
    raise _OddError


def _mark_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = _Mark("intake.duplicate_key", "this key is there twice") if key in found else value
    return found


def _mark_overflow(digits: str) -> object:
    number = float(digits)
    if -_INFINITE < number < _INFINITE:
        return number
    return _Mark("intake.number", f"{printable(digits, 40)} is too large for a number")


def _mark_long(digits: str) -> object:
    count = len(digits.lstrip("-"))
    if count <= _INTEGER_DIGITS:
        return 0
    return _Mark("intake.number", f"an integer of {count} digits: expected at most {_INTEGER_DIGITS}")


def _mark_constant(name: str) -> object:
    return _Mark("intake.number", f"{name} is not a JSON number")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite).raw_decode
_MARKING = json.JSONDecoder(
    object_pairs_hook=_mark_repeats,
    parse_constant=_mark_constant,
    parse_float=_mark_overflow,
    parse_int=_mark_long,
).raw_decode


def _locate(text: str, lead: int) -> Problem:
    """Return the first thing in `text` that made the quick reading give up."""
    try:
        marked, _ = _MARKING(text, lead)
    except json.JSONDecodeError as error:
        return _syntax(text, error.pos, error.msg)
    # Nothing is found when the interpreter was told to accept fewer digits than we do.
    return next(_oddities(marked, ""), Problem("intake.number", "", "an integer is too long to be read", -1))


def _oddities(value: object, pointer: str) -> Iterator[Problem]:
    """Yield every value that cannot be taken, in document order, with its pointer."""
    if isinstance(value, _Mark):
        yield Problem(value.code, pointer, value.message, -1)
    elif isinstance(value, str):
        yield from _unstorable(value, pointer, "the text")
    elif isinstance(value, dict):
        for key, inner in value.items():
            place = pointer + pointer_part(key)
            yield from _unstorable(key, place, "the key")
            yield from _oddities(inner, place)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _oddities(inner, f"{pointer}/{index}")


def _unstorable(text: str, pointer: str, what: str) -> Iterator[Problem]:
    if "\0" in text:
        yield Problem("intake.encoding", pointer, f"{what} holds the character NUL, which cannot be stored", -1)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        seen = f"\\u{ord(text[error.start]):04x}"
        yield Problem("intake.encoding", pointer, f"{what} holds {seen}, half of a surrogate pair", -1)


def _syntax(text: str, at: int, expected: str) -> Problem:
    seen = text[at : at + 20]
    if seen[:1] == "\0":
        return Problem("intake.encoding", "", "a NUL character at byte {byte}", at)
    got = f"'{printable(seen, 20)}'" if seen else "the end"
    wanted = expected[:1].lower() + expected[1:]
    return Problem("intake.json", "", f"not valid JSON at byte {{byte}}: {wanted}, got {got}", at)


def _not_utf8(piece: Piece, error: UnicodeDecodeError) -> Problem:
    at = error.start
    if not piece.is_ended and error.end == len(piece.raw) and error.reason == "unexpected end of data":
        return Problem("intake.truncated", "", "the file ends inside a character of this row", at)
    place = piece.byte_offset + at
    return Problem("intake.encoding", "", f"not UTF-8: the byte 0x{piece.raw[at]:02x} at byte {place}", at)


def _too_nested(text: str, limit: int) -> Problem | None:
    """Return why `text` may not be built in memory, without building it."""
    depth = opened = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in "{[":
            depth += 1
            opened += 1
            if depth > limit:
                return Problem("intake.depth", "", f"nested deeper than {limit}", -1)
            if opened > _CONTAINERS:
                return Problem("intake.size", "", f"more than {_CONTAINERS} objects and arrays in one row", -1)
        elif first != '"':
            depth -= 1
    return None


def _is_open_at_end(text: str) -> bool:
    """Say whether `text` stops inside a string, an object or an array."""
    depth = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first == '"':
            if not token[1]:
                return True
        else:
            depth += 1 if first in "{[" else -1
    return depth > 0
