"""Rows against the schema that a flow takes: a quick yes, or one problem with its place."""

import json
from typing import Any

import jsonschema_rs
from jsonschema_rs import RegexOptions, ValidationError
from contracts.errors import BadContract
from contracts.excerpts import pointer_part, printable
from pipeline.intake.sources.json_text import kind_of

_WITH_ARTICLE = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_BOUNDS = {
    "maximum": "at most {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "exclusiveMinimum": "more than {}",
    "multipleOf": "a multiple of {}",
    "maxLength": "at most {} characters",
    "minLength": "at least {} characters",
    "maxItems": "at most {} items",
    "minItems": "at least {} items",
    "maxProperties": "at most {} fields",
    "minProperties": "at least {} fields",
}
_DEPTH_OF_CHOICES = 8


class RowValidator:
    """One schema, compiled once."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Compile `schema`. Raises BadContract when it is not a schema, or refers to anything outside itself."""
        try:
            # Linear-time patterns only: rows are foreign text. Offline: a schema never fetches.
            self._validator = jsonschema_rs.validator_for(schema, validate_formats=True, pattern_options=RegexOptions(), offline=True)
        except (ValueError, ValidationError, jsonschema_rs.ReferencingError) as error:
            why = getattr(error, "message", "") or str(error)
            raise BadContract(f"the schema for rows cannot be used: {printable(why, 300)}") from error
        self.is_valid = self._validator.is_valid

    def first_problem(self, value: object) -> tuple[str, str, str] | None:
        """Return code, JSON pointer and message of the first violation; None when `value` is valid."""
        if self.is_valid(value):
            return None
        error = _most_telling(next(self._validator.iter_errors(value)))
        pointer = "".join(pointer_part(str(part)) for part in error.instance_path)
        return _in_words(error, pointer)


def _most_telling(error: ValidationError) -> ValidationError:
    """Return, for a choice of which no branch fits, the error of the branch that got furthest into the row."""
    for _ in range(_DEPTH_OF_CHOICES):
        branches = getattr(error.kind, "context", None)
        if not branches:
            break
        deepest = max((branch[0] for branch in branches if branch), key=lambda e: len(e.instance_path), default=None)
        # Branches that all fail at the place of the choice say less than the choice itself.
        if deepest is None or len(deepest.instance_path) <= len(error.instance_path):
            break
        error = deepest
    return error


def _in_words(error: ValidationError, pointer: str) -> tuple[str, str, str]:
    kind = error.kind
    keyword = kind.name
    got = _seen(error.instance)
    if keyword == "type":
        types = " or ".join(_WITH_ARTICLE.get(name, name) for name in getattr(kind, "types", ()))
        # An integer field that holds 1.5 is told by its value, all else by its kind.
        is_close = type(error.instance) is float and "integer" in getattr(kind, "types", ())
        return "intake.type", pointer, f"expected {types}, got {got if is_close else kind_of(error.instance)}"
    if keyword == "required":
        return "intake.required", pointer + pointer_part(str(getattr(kind, "property", ""))), "required and missing"
    if keyword in ("additionalProperties", "unevaluatedProperties"):
        extra = getattr(kind, "unexpected", None) or [""]
        return "intake.value", pointer + pointer_part(extra[0]), "not a field that the contract takes"
    return "intake.value", pointer, f"{_expected(error)}, got {got}"


def _expected(error: ValidationError) -> str:
    kind = error.kind
    keyword = kind.name
    if keyword in _BOUNDS:
        return "expected " + _BOUNDS[keyword].format(getattr(kind, "limit", getattr(kind, "multiple_of", "?")))
    if keyword == "enum":
        return f"expected one of {_options(kind.value)}"
    if keyword == "const":
        return f"expected {_options(kind.value)}"
    if keyword == "format":
        return f"expected text of the format {kind.value}"
    if keyword == "pattern":
        return f"expected text that matches {printable(str(kind.value))}"
    if keyword == "uniqueItems":
        return "expected items that differ"
    place = "/".join(str(part) for part in error.schema_path)
    return f"not what the contract takes at {printable(place)}"


def _options(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _seen(value: object) -> str:
    if isinstance(value, str):
        shown = f"'{printable(value, 60)}'"
        return shown if len(value) <= 60 else f"{shown} ({len(value)} characters)"
    if isinstance(value, (dict, list)):
        return f"{kind_of(value)} of {len(value)}"
    return printable(json.dumps(value))
