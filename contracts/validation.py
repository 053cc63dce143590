"""Values against schemas: a quick yes or no, and findings that say what was expected and what was there."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson
from contracts.canonical import is_within_depth
from contracts.excerpts import ECHO_CHARS, pointer_part, printable
from contracts.nouns import Finding

MAX_FINDINGS = 20
MAX_MESSAGE_CHARS = 200
MAX_CHECKED_LEVELS = 100
"""Deeper values are refused unread: the library recurses, and a deep enough one would end the process."""

PATTERNS = jsonschema_rs.RegexOptions()
"""The engine without backtracking: matching takes time linear in the text, whatever the pattern."""

_LIMITS = {
    "minLength": "at least {limit} characters",
    "maxLength": "at most {limit} characters",
    "minItems": "at least {limit} elements",
    "maxItems": "at most {limit} elements",
    "minProperties": "at least {limit} fields",
    "maxProperties": "at most {limit} fields",
    "minimum": "at least {limit}",
    "maximum": "at most {limit}",
    "exclusiveMinimum": "more than {limit}",
    "exclusiveMaximum": "less than {limit}",
}
_SIZED = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"))
_TELLING = frozenset(("const", "enum", "type"))


def compiled(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """Return the library's validator: nothing fetched, formats asserted, patterns linear."""
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, ignore_unknown_formats=False, offline=True, pattern_options=PATTERNS
    )


class Validator:
    """A compiled schema that passed `check_schema`. Immutable, and safe to use from many threads."""

    __slots__ = ("_compiled", "schema")

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self._compiled = compiled(schema)

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` satisfies the schema; False for what is no JSON or nested deeper than MAX_CHECKED_LEVELS."""
        try:
            return is_within_depth(value, MAX_CHECKED_LEVELS) and self._compiled.is_valid(value)
        except (ValueError, TypeError):
            return False  # `findings` says why

    def findings(self, value: Any) -> tuple[Finding, ...]:
        """Return what is wrong with `value`, at most MAX_FINDINGS; empty when it is valid."""
        if not is_within_depth(value, MAX_CHECKED_LEVELS):
            return (_finding("schema.value", (), f"nested deeper than {MAX_CHECKED_LEVELS} levels"),)
        try:
            problems = self._compiled.iter_errors(value)
            found = (finding for problem in problems for finding in findings_of(problem, self.schema))
            return tuple(islice(found, MAX_FINDINGS))
        except (ValueError, TypeError) as problem:
            # Names and texts that JSON cannot hold: lone surrogates, keys that are no strings.
            return (_finding("schema.value", (), f"not a JSON value: {printable(str(problem))}"),)


def findings_of(problem: jsonschema_rs.ValidationError, schema: Any) -> Iterator[Finding]:
    """Yield one error of the library as findings; `schema` is the whole schema that it came from."""
    kind, path = problem.kind, tuple(problem.instance_path)
    told = kind.as_dict()
    match kind.name:
        case "required":
            yield _finding("schema.required", (*path, told["property"]), "missing")
        case "additionalProperties" | "unevaluatedProperties":
            known = _known_names(problem, schema)
            for name in told["unexpected"]:
                yield _finding("schema.extra", (*path, name), "not allowed here" + _instead(name, known))
        case "falseSchema":
            yield _finding("schema.extra", path, "not allowed here")
        case "type":
            yield _finding("schema.type", path, f"expected {_types(told['types'])}, got {type_of(problem.instance)}")
        case "anyOf" | "oneOf" if not isinstance(kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid):
            yield from _of_branches(problem, schema)
        case _:
            yield _finding("schema.value", path, _expectation(problem, told))


def type_of(value: Any) -> str:
    """Return the JSON type of `value` in words: such as `null` or `a string`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = ((str, "a string"), (int, "an integer"), (dict, "an object"), (list, "an array"))
    return next((name for kind, name in names if isinstance(value, kind)), "a number")


def _expectation(problem: jsonschema_rs.ValidationError, told: dict[str, Any]) -> str:
    name, seen = problem.kind.name, problem.instance
    size = len(seen) if isinstance(seen, (str, list, dict)) else 0
    if name in _LIMITS:
        return f"expected {_LIMITS[name].format(**told)}, got {size if name in _SIZED else _shown(seen)}"
    match name:
        case "const":
            return f"expected {_shown(told['expected_value'])}, got {_shown(seen)}"
        case "enum":
            return f"expected {_one_of(told['options'])}, got {_shown(seen)}"
        case "pattern":
            return f"expected text matching {printable(told['pattern'])}, got {_shown(seen)}"
        case "format":
            return f"expected a {told['format']}, got {_shown(seen)}"
        case "multipleOf":
            return f"expected a multiple of {told['multiple_of']}, got {_shown(seen)}"
        case "uniqueItems":
            return "expected elements that differ, got one of them twice"
        case "contains":
            return "expected an element of a certain form, got none"
        case "oneOf":
            return "fits more than one of the forms of which exactly one is allowed"
        case "propertyNames":
            return f"holds a field whose name is not allowed: {printable(told['error'].message)}"
        case "not":
            return f"is of a form that is not allowed: {_shown(told['schema'])}"
        case "unevaluatedItems":
            return "holds elements beyond those that are allowed"
    return printable(problem.message, MAX_MESSAGE_CHARS)


def _of_branches(problem: jsonschema_rs.ValidationError, schema: Any) -> Iterator[Finding]:
    """Yield the findings of the form that was meant: the one whose fixed values and types fit best."""
    branches: list[list[jsonschema_rs.ValidationError]] = problem.kind.as_dict()["context"]
    here = len(problem.instance_path)
    ranked = sorted(
        (sum(_decides(e, here) for e in branch), sum(_tells(e, here) for e in branch), len(branch), at)
        for at, branch in enumerate(branches)
        if branch
    )
    if not ranked:
        yield _finding("schema.value", problem.instance_path, "fits none of the allowed forms")
        return
    (deciding, telling, _, best), others = ranked[0], ranked[1:]
    if not telling or not others or deciding < others[0][0]:
        for error in branches[best]:
            yield from findings_of(error, schema)
        return
    tells = [error for branch in branches for error in branch if _tells(error, here)]
    places = {tuple(error.instance_path) for error in tells}
    if len(places) > 1:
        yield _finding("schema.value", problem.instance_path, "fits none of the allowed forms")
        return
    where = places.pop()
    if all(error.kind.name == "type" for error in tells):
        wanted = [name for error in tells for name in error.kind.as_dict()["types"]]
        yield _finding("schema.type", where, f"expected {_types(wanted)}, got {type_of(tells[0].instance)}")
        return
    options: list[Any] = []
    for error in tells:
        told = error.kind.as_dict()
        options += told.get("options") or ([told["expected_value"]] if "expected_value" in told else [])
    yield _finding("schema.value", where, f"expected {_one_of(options)}, got {_shown(tells[0].instance)}")


def _tells(error: jsonschema_rs.ValidationError, here: int) -> bool:
    """Return whether an error may say that another form was meant: a fixed value or type, here or one field down."""
    name, depth = error.kind.name, len(error.instance_path) - here
    return name in _TELLING and (depth == 0 or (depth == 1 and name != "type"))


def _decides(error: jsonschema_rs.ValidationError, here: int) -> bool:
    """Return whether an error says that another form was meant: the word by which forms tell each other apart."""
    return error.kind.name != "enum" and _tells(error, here)


def _known_names(problem: jsonschema_rs.ValidationError, schema: Any) -> list[str]:
    part = schema
    for step in problem.schema_path[:-1]:
        try:
            part = part[step]
        except (KeyError, IndexError, TypeError):
            return []
    return list(part.get("properties", ())) if isinstance(part, dict) else []


def _instead(name: str, known: list[str]) -> str:
    close = get_close_matches(name[:ECHO_CHARS], known, 1)  # comparing a megabyte would take seconds
    if close:
        return f": did you mean {printable(close[0])}?"
    return f": known are {printable(', '.join(known), 120)}" if known else ""


def _types(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return " or ".join(n if n == "null" else f"an {n}" if n[0] in "aeiou" else f"a {n}" for n in distinct)


def _one_of(options: list[Any]) -> str:
    distinct = list(dict.fromkeys(_shown(option) for option in options))
    return distinct[0] if len(distinct) == 1 else "one of " + printable(", ".join(distinct), 100)


def _shown(value: Any) -> str:
    """Return a short printable excerpt of `value` as JSON."""
    if isinstance(value, str):
        return f'"{printable(value, 78)}"'
    if isinstance(value, (dict, list)) and len(value) > 20:
        return type_of(value)  # a large one is not worth its own excerpt
    try:
        return printable(orjson.dumps(value).decode())
    except TypeError:
        return printable(str(value))


def _finding(code: str, path: Iterable[str | int], message: str) -> Finding:
    place = "".join(pointer_part(printable(str(step))) for step in path)
    return Finding(code=code, place=place, message=printable(message, MAX_MESSAGE_CHARS))
