"""Files that people write, read strictly: what a file does not say plainly is refused with its line."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import yaml
from contracts.canonical import is_within_depth
from contracts.errors import BadContract, BadInput
from contracts.excerpts import printable
from contracts.plain_yaml import EXACT, MAX_NESTING, YamlReader

MAX_CHARS = 1_048_576
"""Contracts and floors are written by hand; what is larger is another kind of file."""

_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, with the line of each part of it."""

    name: str
    value: Any
    lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Line by JSON pointer, from 1."""

    def place(self, pointer: str) -> str:
        """Return where `pointer` is, such as `contract.yaml line 7, /limits/seconds`."""
        above = pointer
        while above and above not in self.lines:
            above = above.rpartition("/")[0]
        line = f" line {self.lines[above]}" if above in self.lines else ""
        return f"{self.name}{line}" + (f", {printable(pointer, 200)}" if pointer else "")


def load_yaml(text: str | bytes, name: str, error: type[BadInput] = BadContract) -> Any:
    """Return the value of a YAML 1.2 document, read by its plain subset; see `read_yaml`."""
    return read_yaml(text, name, error).value


def read_yaml(text: str | bytes, name: str, error: type[BadInput] = BadContract) -> Document:
    """Return the document in `text`: JSON values only, keys are strings, dates stay strings.

    Refused with line and remedy, as `error`: duplicate keys, tags, anchors and aliases, several documents, unquoted
    `yes no on off`, numbers with leading zeros or more digits than are exact, and anything that is not YAML.
    """
    text = _text(text, name, error)
    reader = YamlReader(name, error)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        said = ", ".join(part for part in (problem.context, problem.problem) if part)
        raise error(f"{name}{where}: not YAML: {printable(said, 200)}") from problem
    except (yaml.YAMLError, UnicodeEncodeError) as problem:
        raise error(f"{name}: holds a character that YAML does not allow: {printable(str(problem), 120)}") from problem
    if not reader.found:
        raise error(f"{name}: is empty")
    _refuse_unstorable(reader.value, name, error)
    return Document(name, reader.value, MappingProxyType(reader.lines))


def read_json_or_yaml(text: str | bytes, name: str, error: type[BadInput] = BadContract) -> Document:
    """Return a document that is JSON, such as stored canonical bytes, or else YAML.

    JSON is no subset of what YAML readers accept: they fold line separators and refuse DEL inside strings.
    """
    text = _text(text, name, error)
    if text.lstrip()[:1] == "{":
        try:
            return Document(name, load_json(text, name, error))
        except error as problem:
            if not isinstance(problem.__cause__, json.JSONDecodeError):
                raise
    return read_yaml(text, name, error)


def load_json(text: str | bytes, name: str, error: type[BadInput] = BadContract) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Refused as `error`: duplicate keys, NaN and infinities, numbers that would lose digits, NUL and lone surrogates,
    nesting deeper than MAX_NESTING, and anything that is not JSON.
    """
    text = _text(text, name, error)

    def refuse(token: str, why: str) -> NoReturn:
        raise error(f"{name}{_line_of_token(text, token)}: {printable(token, 40)} {why}")

    def whole(token: str) -> int:
        if len(token) > 17 or abs(int(token)) > EXACT:
            refuse(token, "has more digits than are exact: write it as a string")
        return int(token)

    def fraction(token: str) -> float:
        number = float(token)
        if math.isinf(number):
            refuse(token, "is too large to be a number")
        return number

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key, line = _duplicate(text)
            raise error(f"{name} line {line}: key {printable(key)!r} is there twice in one object: keep one")
        return found

    def constant(token: str) -> NoReturn:
        refuse(token, "is not JSON: write null")

    try:
        value = json.loads(text, object_pairs_hook=members, parse_int=whole, parse_float=fraction, parse_constant=constant)
    except json.JSONDecodeError as problem:
        raise error(f"{name} line {problem.lineno}, column {problem.colno}: not JSON: {problem.msg}") from problem
    except RecursionError as problem:
        raise error(f"{name}: nested deeper than {MAX_NESTING} levels") from problem
    if not is_within_depth(value, MAX_NESTING):
        raise error(f"{name}: nested deeper than {MAX_NESTING} levels")
    _refuse_unstorable(value, name, error)
    return value


def _text(given: str | bytes, name: str, error: type[BadInput]) -> str:
    text = given if isinstance(given, str) else _decoded(given, name, error)
    if len(text) > MAX_CHARS:
        raise error(f"{name}: has {len(text)} characters; at most {MAX_CHARS} are read")
    return text.removeprefix("\ufeff")


def _decoded(given: bytes, name: str, error: type[BadInput]) -> str:
    if given.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise error(f"{name}: is UTF-16: save it as UTF-8")
    try:
        return given.decode()
    except UnicodeDecodeError as problem:
        line = given.count(b"\n", 0, problem.start) + 1
        raise error(f"{name} line {line}, byte {problem.start}: not UTF-8: save the file as UTF-8") from problem


def _refuse_unstorable(value: Any, name: str, error: type[BadInput]) -> None:
    shown = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in shown and "\0" in "".join(_strings(value)):
        raise error(f"{name}: a string holds the character NUL, which no database text can hold: remove it")
    try:
        shown.encode()
    except UnicodeEncodeError as problem:
        raise error(f"{name}: a string holds a lone surrogate, which is not text: remove it") from problem


def _strings(value: Any) -> list[str]:
    found, rest = [], [value]
    while rest:
        part = rest.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict):
            found += part
            rest += part.values()
        elif isinstance(part, list):
            rest += part
    return found


def _line_of_token(text: str, token: str) -> str:
    for match in _JSON_TOKEN.finditer(text):
        if match[0] == token:
            return f" line {text.count(chr(10), 0, match.start()) + 1}"
    return ""


def _duplicate(text: str) -> tuple[str, int]:
    """Return the first key that repeats in its object, and the line of the second one. Only for a text that has one."""
    open_objects: list[set[str]] = []
    previous: re.Match[str] | None = None
    for match in _JSON_TOKEN.finditer(text):
        piece = match[0]
        if piece in "{[":
            open_objects.append(set())
        elif piece in "}]":
            open_objects.pop()
        elif piece == ":" and previous is not None:
            key = json.loads(previous[0])
            if key in open_objects[-1]:
                return key, text.count("\n", 0, previous.start()) + 1
            open_objects[-1].add(key)
        previous = match
    raise AssertionError("no key repeats")
