"""JSON Schema 2020-12 as contracts use it: refused when a schema says less than it seems to, quick when it runs.

Nothing is fetched, every keyword counts, formats are asserted and patterns run in linear time.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
from contracts.canonical import canonical
from contracts.documents import Document
from contracts.errors import BadContract, BadInput
from contracts.excerpts import pointer_part, printable
from contracts.validation import PATTERNS, Validator, compiled, findings_of

__all__ = ["Validator", "check_document", "check_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_PARTS = 1000
"""Schemas inside one schema. A chain of `$ref` through many thousands would exhaust the stack."""

_MOST = 5
"""Places named in one refusal; the rest are counted."""

_ONE = frozenset((
    "additionalProperties", "unevaluatedProperties", "propertyNames", "items", "unevaluatedItems", "contains", "not",
    "if", "then", "else",
))  # fmt: skip
_MANY = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs"))
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"))
_PLAIN = frozenset((
    "type", "const", "enum", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "minContains",
    "maxContains", "minProperties", "maxProperties", "dependentRequired", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$ref", "$anchor",
))  # fmt: skip
_ROOT = frozenset(("$schema", "$id"))
_KNOWN = _ONE | _MANY | _NAMED | _PLAIN | _ROOT
_INSTEAD = {
    "definitions": "write $defs",
    "dependencies": "write dependentRequired or dependentSchemas",
    "additionalItems": "write items for what follows prefixItems",
    "nullable": 'write "type": ["…", "null"]',
    "id": "write $id, at the top only",
    "$recursiveRef": "write $ref",
    "$dynamicRef": "write $ref",
    "$recursiveAnchor": "write $anchor",
    "$dynamicAnchor": "write $anchor",
    "$vocabulary": "remove it",
    "contentEncoding": "it describes and checks nothing: remove it",
    "contentMediaType": "it describes and checks nothing: remove it",
    "contentSchema": "it describes and checks nothing: remove it",
}
FORMATS = (
    "date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri",
    "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer", "relative-json-pointer", "regex",
)  # fmt: skip


def check_schema(
    schema: Any,
    *,
    name: str,
    purpose: Literal["input", "output"],
    place: Callable[[str], str] | None = None,
    error: type[BadInput] = BadContract,
) -> None:
    """Return when `schema` means what it seems to mean; else raise `error` with the place of what does not.

    `place` turns a JSON pointer into the words that locate it, by default `name` and the pointer. As an output, a
    schema that takes every object is refused: it would check nothing.
    """

    def refuse(pointer: str, why: str) -> None:
        raise error(f"{(place or (lambda at: name + (' ' + at if at else '')))(pointer)}: {why}")

    if not isinstance(schema, (dict, bool)):
        refuse("", f"expected a JSON Schema, got {printable(repr(schema), 40)}")
    try:
        canonical(schema)
    except BadInput as problem:
        refuse("", problem.message)
    parts = dict(_parts(schema))
    if len(parts) > MAX_PARTS:
        refuse("", f"has {len(parts)} schemas inside it; at most {MAX_PARTS} are read")
    for pointer, part in parts.items():
        _check_keywords(pointer, part, refuse)
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as problem:
        finding = next(findings_of(problem, {}))
        refuse(finding.place, finding.message)
    _check_references(parts, refuse)
    _check_patterns(schema, refuse)
    _check_meaning(schema, purpose, refuse)


def check_document(document: Document, meta: Literal["contract", "floor"], error: type[BadInput]) -> None:
    """Return when a document has the form of its kind; else raise `error` with every place that has not."""
    found = _meta(meta).findings(document.value)
    if found:
        lines = [f"{document.place(finding.place)}: {finding.message}" for finding in found[:_MOST]]
        if len(found) > _MOST:
            lines.append(f"and {len(found) - _MOST} more")
        raise error("\n".join(lines))


@cache
def _meta(kind: str) -> Validator:
    return Validator(json.loads(Path(__file__).with_name("meta").joinpath(f"{kind}.json").read_bytes()))


def _parts(schema: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every schema inside `schema` by its JSON pointer, without recursion."""
    rest = [(pointer, schema)]
    while rest:
        at, part = rest.pop()
        yield at, part
        if isinstance(part, dict):
            rest += _children(at, part)


def _children(at: str, part: dict[str, Any], keywords: frozenset[str] = _ONE | _MANY | _NAMED) -> Iterator[tuple[str, Any]]:
    for keyword in keywords & part.keys():
        value, below = part[keyword], at + pointer_part(keyword)
        if keyword in _ONE:
            yield below, value
        elif keyword in _MANY and isinstance(value, list):
            yield from ((f"{below}/{index}", child) for index, child in enumerate(value))
        elif keyword in _NAMED and isinstance(value, dict):
            yield from ((below + pointer_part(key), child) for key, child in value.items())


def _check_keywords(pointer: str, part: Any, refuse: Callable[[str, str], None]) -> None:
    if not isinstance(part, dict):
        return
    for keyword in part:
        at = pointer + pointer_part(keyword)
        if keyword in _INSTEAD:
            refuse(at, f"keyword {keyword} is not part of the contract language: {_INSTEAD[keyword]}")
        if keyword not in _KNOWN:
            close = get_close_matches(keyword, _KNOWN, 1)
            hint = f"did you mean {close[0]}?" if close else "a JSON Schema 2020-12 keyword is needed; fields stand under properties"
            refuse(at, f"unknown keyword {printable(keyword, 40)!r}: {hint}")
        if keyword in _ROOT and pointer:
            refuse(at, f"{keyword} is inside a schema: it is allowed at its top only")
    if part.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        refuse(pointer + "/$schema", f"unknown draft {printable(repr(part['$schema']))}: write {DIALECT}, or leave it out")
    if isinstance(part.get("format"), str) and part["format"] not in FORMATS:
        close = get_close_matches(part["format"], FORMATS, 1)
        refuse(
            pointer + "/format",
            f"unknown format {printable(part['format'], 40)!r}: "
            + (f"did you mean {close[0]}?" if close else f"known are {', '.join(FORMATS[:11])}, …, or write a pattern"),
        )


def _check_references(parts: Mapping[str, Any], refuse: Callable[[str, str], None]) -> None:
    anchors = {f"#{part['$anchor']}": at for at, part in parts.items() if isinstance(part, dict) and "$anchor" in part}
    leads_to: dict[str, list[str]] = {}
    for at, part in parts.items():
        if not isinstance(part, dict):
            continue
        leads_to[at] = [below for below, _ in _children(at, part, _IN_PLACE)]
        reference = part.get("$ref")
        if reference is None:
            continue
        if not reference.startswith("#"):
            refuse(at + "/$ref", f"{printable(reference)!r} leads out of this schema: nothing is fetched, write #/$defs/…")
        target = anchors.get(reference, reference[1:] if reference[1:2] in ("", "/") else None)
        if target not in parts:
            known = ", ".join(sorted(["#" + p for p in parts if p.startswith("/$defs/") and p.count("/") == 2] + list(anchors)))
            refuse(at + "/$ref", f"{printable(reference)!r} names no schema in here (known: {printable(known) or 'none'})")
        leads_to[at].append(target or "")
    try:
        TopologicalSorter(leads_to).prepare()
    except CycleError as problem:
        around = [at for at in problem.args[1] if "$ref" in parts[at]]
        refuse(
            f"{around[0]}/$ref",
            "leads back to itself without looking any deeper into the value: it can never be decided",
        )


def _check_patterns(schema: Any, refuse: Callable[[str, str], None]) -> None:
    try:
        compiled(schema)
    except jsonschema_rs.ValidationError as problem:
        path = [str(step) for step in problem.instance_path]
        pattern = path[-1] if path[-2:-1] == ["patternProperties"] else str(problem.instance)
        refuse(
            "".join(map(pointer_part, path)),
            f"pattern {printable(pattern)!r} cannot be matched in linear time: no look-around, no back-references, "
            "small repeat counts; or it is no regular expression",
        )


def _check_meaning(schema: Any, purpose: str, refuse: Callable[[str, str], None]) -> None:
    try:
        meaning, objects = (
            jsonschema_rs.canonicalize(each, validate_formats=True, pattern_options=PATTERNS, offline=True)
            for each in (schema, {"type": "object"})
        )
        if meaning.intersect(objects).satisfiability() == jsonschema_rs.canonical.Satisfiability.NO:
            refuse("", "no object can ever satisfy this schema")
        if purpose == "input" or not compiled(schema).is_valid({}):
            return  # the proof below takes milliseconds, one counterexample none
        if meaning.covers(objects) == jsonschema_rs.canonical.Containment.YES:
            refuse("", "takes every object, so it checks nothing: say which properties there are, which are required")
    except jsonschema_rs.canonical.CanonicalizationError:
        return  # beyond what the library can reason about: such a schema is no empty one
