"""One string of bytes for one JSON value (RFC 8785), so that equal values have equal hashes."""

import hashlib
from typing import Any

import orjson
import rfc8785
from contracts.errors import BadInput

MAX_JSON_LEVELS = 200
"""Arrays and objects inside each other. Far above any contract, far below what exhausts a C stack."""

_SCALARS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
# Exact types only: orjson would otherwise write dates, UUIDs and enums that JSON does not have.
_OPTIONS = (
    orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
)  # fmt: skip


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Raises BadInput for what they cannot carry exactly: NaN, infinities and integers beyond ±(2^53 − 1)
    (`canonical.number`), lone surrogates (`canonical.text`), values that are not JSON (`canonical.type`) and
    nesting deeper than MAX_JSON_LEVELS (`canonical.depth`). A NUL passes: it is JSON.
    """
    quick = _quick(value)
    if quick is not None:
        return quick
    if not is_within_depth(value, MAX_JSON_LEVELS):
        raise BadInput(f"the value is nested deeper than {MAX_JSON_LEVELS} levels", code="canonical.depth")
    # 1.0 is by far the most common number that orjson writes otherwise; RFC 8785 knows it as 1.
    quick = _quick(_with_whole_numbers(value))
    if quick is not None:
        return quick
    try:
        return rfc8785.dumps(value)
    except rfc8785.FloatDomainError as problem:
        message = "a number is NaN or infinite: JSON has no such number, write null"
        raise BadInput(message, code="canonical.number") from problem
    except (rfc8785.CanonicalizationError, ValueError) as problem:
        raise _explained(problem) from problem


def _explained(problem: ValueError) -> BadInput:
    said = str(problem)
    if isinstance(problem, UnicodeEncodeError) or "codepoints" in said:
        return BadInput("a string holds a lone surrogate, which is not text", code="canonical.text")
    # The library's own message fails on integers of more than 4,300 digits: then a bare ValueError arrives.
    if isinstance(problem, rfc8785.IntegerDomainError) or not isinstance(problem, rfc8785.CanonicalizationError):
        message = f"an integer lies beyond ±{2**53 - 1} and would lose digits: write it as a string"
        return BadInput(message, code="canonical.number")
    return BadInput(f"the value is not JSON: {said}", code="canonical.type")


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical bytes of a JSON value, in lower-case hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def is_within_depth(value: Any, limit: int) -> bool:
    """Return whether arrays and objects stand at most `limit` levels deep, without recursion."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(limit):
        if not level:
            return True
        level = [child for parent in level for child in (parent.values() if type(parent) is dict else parent) if type(child) in _CONTAINERS]
    return not level


def _quick(value: Any) -> bytes | None:
    if not _is_plain(value):
        return None
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except (TypeError, ValueError):
        return None  # what is wrong with it, the library says better


def _with_whole_numbers(value: Any) -> Any:
    kind = type(value)
    if kind is float and abs(value) < 2.0**53 and value.is_integer():
        return int(value)
    if kind is dict:
        return {key: _with_whole_numbers(child) for key, child in value.items()}
    if kind is list or kind is tuple:
        return [_with_whole_numbers(child) for child in value]
    return value


def _is_plain(value: Any) -> bool:
    """Return whether orjson writes `value` exactly as RFC 8785 wants it.

    It does for exact JSON types when every key is ASCII (UTF-8 and UTF-16 order then agree) and every float is one
    that both write as shortest decimals without exponent: not whole, and between a thousandth and 10^15.
    """
    if type(value) not in _CONTAINERS:
        return _is_plain_leaf(value)
    level = [value]
    for _ in range(MAX_JSON_LEVELS):
        below: list[Any] = []
        for parent in level:
            if type(parent) is dict:
                try:
                    if not "".join(parent).isascii():
                        return False
                except TypeError:
                    return False  # a key that is no string
                children = parent.values()
            else:
                children = parent
            if _SCALARS.issuperset(map(type, children)):
                continue
            for child in children:
                kind = type(child)
                if kind in _CONTAINERS:
                    below.append(child)
                elif kind not in _SCALARS and not _is_plain_leaf(child):
                    return False
        if not below:
            return True
        level = below
    return False


def _is_plain_leaf(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return 1e-3 <= abs(value) < 1e15 and not value.is_integer()
    return kind in _SCALARS
