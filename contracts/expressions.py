"""Rules as text: CEL expressions, checked when they are loaded and quick when they run."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.cel_engine import load_engine
from contracts.errors import BadContract, BadInput, ExpressionFailed
from contracts.excerpts import printable

if TYPE_CHECKING:
    import cel

_engine = load_engine()

MAX_CHARS = 2000
"""Longer chains of operators would exhaust the parser's stack, which ends the process."""
MAX_LOOPS = 2
"""`all`, `exists`, `map` and `filter` inside each other; each level multiplies the work by the length of a list."""

_SECONDS_A_DAY = 86_400

# The library logs what a function of ours raised, and with it the values of somebody's row.
logging.getLogger("cel").addFilter(lambda _: False)


def days_between(start: str, end: str) -> float:
    """Return the days from `start` to `end`, two ISO 8601 instants with zone; negative when `end` is earlier."""
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() / _SECONDS_A_DAY
    except (TypeError, ValueError):
        seen = printable(f"{start!r} and {end!r}")
        raise ValueError(f"days_between takes two instants such as '2024-05-31T09:30:00Z', got {seen}") from None


def lower(text: str) -> str:
    """Return `text` in lower case, by Unicode's full mapping."""
    if not isinstance(text, str):
        raise TypeError(f"lower takes text, got {printable(repr(text), 40)}")
    return text.lower()


FUNCTIONS: dict[str, Callable[..., Any]] = {"days_between": days_between, "lower": lower}
"""What expressions can call beyond CEL itself."""

_CEL_FUNCTIONS = frozenset((
    "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes", "timestamp",
    "duration", "type", "dyn", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds",
))  # fmt: skip
_SOME = ("size", "contains", "startsWith", "endsWith", "matches", *FUNCTIONS)
_LOOPS = frozenset(("all", "exists", "exists_one", "map", "filter"))
_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | //[^\n]* )
    | (?P<text> (?:[bB]?[rR]|[rR][bB]) (?: '{3}.*?'{3} | "{3}.*?"{3} | '[^'\n]*' | "[^"\n]*" )
              | [bB]? (?: '{3}(?:\\.|[^\\])*?'{3} | "{3}(?:\\.|[^\\])*?"{3} )
              | [bB]? (?: '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" ) )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<number> [0-9][0-9A-Za-z.]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_WRAPPING = re.compile(r"^Function '\w+' error: (?:Python function call failed: \w+: )?|\.? Check function arguments and their types\.$")
_WORDS = frozenset(("true", "false", "null", "in"))


class Expression:
    """A compiled expression over named variables. Immutable, and safe to evaluate from many threads."""

    __slots__ = ("_program", "_wanted", "fields", "text")

    def __init__(self, text: str, *, variables: Collection[str], place: str = "", error: type[BadInput] = BadContract) -> None:
        """Compile `text`. Raises `error`, starting with `place`, for anything that is wrong before data is seen."""
        self.text = text
        before = f"{place}: " if place else ""
        if len(text) > MAX_CHARS:
            raise error(f"{before}expression of {len(text)} characters: at most {MAX_CHARS}, split it")
        self._program = _compile(text, before, error)
        scan = _Scan(_tokens(text), frozenset(variables))
        if scan.loops > MAX_LOOPS:
            raise error(f"{before}expression loops {scan.loops} deep: at most {MAX_LOOPS}, its work grows with each level")
        for name in scan.unknown:
            raise error(f"{before}unknown variable {name!r}{_nearest(name, variables)} in {_quoted(text)}")
        known = _CEL_FUNCTIONS | FUNCTIONS.keys()
        for name in self._program.functions():
            if name.isidentifier() and name not in known:
                raise error(f"{before}unknown function {name!r}{_nearest(name, known, _SOME)} in {_quoted(text)}")
        for pattern in scan.patterns:
            _refuse_pattern(pattern, before, error)
        for name in set(self._program.variables()) & set(variables):
            scan.fields.setdefault(name, None)
        self.fields: dict[str, frozenset[str] | None] = scan.fields
        """For each variable used, the fields that are named; None when it is used as a whole."""
        self._wanted = _wanted(self.fields)

    @classmethod
    def all_of(cls, parts: Sequence["Expression"]) -> "Expression":
        """Return the one expression that holds when every part holds: the values are handed over once for all.

        When it does not hold, or has no answer, ask the parts which of them it was.
        """
        whole = cls.__new__(cls)
        whole.text = " && ".join(f"({part.text}\n)" for part in parts) or "true"  # a part may end in a comment
        whole._program = _compile(whole.text, "", BadContract)  # noqa: SLF001 - its own class
        whole.fields = {}
        for part in parts:
            for name, fields in part.fields.items():
                seen = whole.fields.get(name, frozenset())
                whole.fields[name] = None if fields is None or seen is None else seen | fields
        whole._wanted = _wanted(whole.fields)  # noqa: SLF001 - its own class
        return whole

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the value of the expression for `values`, one for each variable. Raises ExpressionFailed.

        Only what the expression names is handed over: converting a whole item costs ten times the evaluation.
        """
        given: dict[str, Any] = {}
        for name, fields in self._wanted:
            try:
                value = values[name]
            except KeyError:
                raise ExpressionFailed(f"{_quoted(self.text)}: variable {name!r} was not given") from None
            if fields is not None and isinstance(value, Mapping):
                value = {field: value[field] for field in fields if field in value}
            given[name] = value
        given.update(FUNCTIONS)
        try:
            return self._program.execute(given)
        except Exception as problem:
            raise ExpressionFailed(f"{_quoted(self.text)}: {_explain(problem)}") from problem
        except BaseException as problem:
            if not _is_panic(problem):
                raise
            raise ExpressionFailed(f"{_quoted(self.text)}: has no answer for these values") from problem

    def is_true(self, values: Mapping[str, Any]) -> bool:
        """Return whether the expression holds. Raises ExpressionFailed when it yields neither true nor false."""
        answer = self.evaluate(values)
        if answer is True or answer is False:
            return bool(answer)
        raise ExpressionFailed(f"{_quoted(self.text)}: expected true or false, got {printable(repr(answer), 40)}")

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class _Token(NamedTuple):
    kind: str
    text: str


class _Scan:
    """What an expression refers to, read from its tokens: the library tells variables, not fields or scopes."""

    def __init__(self, tokens: list[_Token], variables: frozenset[str]) -> None:
        self.loops = 0
        self.unknown: list[str] = []
        self.patterns: list[str] = []
        """Literals given to `matches`, as they are written."""
        self.fields: dict[str, frozenset[str] | None] = {}
        brackets: list[str | None] = []
        """Open brackets, innermost last: for a loop, the name that it binds."""
        for at, token in enumerate(tokens):
            after = [t.text for t in tokens[at + 1 : at + 4]] + [""] * 3
            if token.kind == "sign" and token.text in "([{":
                brackets.append(_bound_name(tokens, at))
                self.loops = max(self.loops, sum(1 for name in brackets if name))
            elif token.kind == "sign" and token.text in ")]}" and brackets:
                brackets.pop()
            elif token.text == "matches" and after[0] == "(" and after[2] == ")":
                if tokens[at + 2].kind == "text":
                    self.patterns.append(after[1])
            elif (
                token.kind != "name"
                or token.text in _WORDS
                or after[0] == "("
                or (at and tokens[at - 1].text == ".")
                or token.text in brackets
            ):
                continue
            elif token.text in variables:
                self._uses(token.text, after)
            elif not (after[0] == "," and at and tokens[at - 1].text == "(" and _bound_name(tokens, at - 1)):
                self.unknown.append(token.text)

    def _uses(self, name: str, after: list[str]) -> None:
        seen = self.fields.get(name, frozenset())
        if seen is None or after[0] != "." or after[2] == "(":
            self.fields[name] = None
        else:
            self.fields[name] = seen | {after[1]}


def _wanted(fields: Mapping[str, frozenset[str] | None]) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    return tuple((name, None if named is None else tuple(sorted(named))) for name, named in fields.items())


def _tokens(text: str) -> list[_Token]:
    return [_Token(match.lastgroup or "", match[0]) for match in _TOKEN.finditer(text) if match.lastgroup != "skip"]


def _bound_name(tokens: list[_Token], at: int) -> str | None:
    """Return the name bound by the loop whose bracket opens at `at`, as in `.exists(name, …)`; else None."""
    is_loop = at >= 2 and tokens[at].text == "(" and tokens[at - 1].text in _LOOPS and tokens[at - 2].text == "."
    if is_loop and at + 2 < len(tokens) and tokens[at + 1].kind == "name" and tokens[at + 2].text == ",":
        return tokens[at + 1].text
    return None


def _compile(text: str, before: str, error: type[BadInput]) -> "cel.Program":
    try:
        return _engine.compile(text)  # type: ignore[no-any-return]
    except ValueError as problem:
        said = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", str(problem))
        where = f" at line {said[1]}, character {said[2]}: {printable(said[3].partition(' expecting ')[0], 160)}" if said else ""
        raise error(f"{before}not a CEL expression{where}, in {_quoted(text)}") from problem
    except BaseException as problem:
        if not _is_panic(problem):
            raise
        raise error(f"{before}not a CEL expression: {_quoted(text)}") from problem


def _refuse_pattern(literal: str, before: str, error: type[BadInput]) -> None:
    try:
        _engine.compile(f"''.matches({literal})").execute({})
    except Exception as problem:
        raise error(f"{before}matches({printable(literal)}): {_explain(problem)}") from problem


def _is_panic(problem: BaseException) -> bool:
    """Return whether the library itself gave up: what it raises then is no Exception and has no name to import."""
    return type(problem).__name__ == "PanicException"


def _explain(problem: Exception) -> str:
    if isinstance(problem, KeyError):
        field = printable(str(problem.args[0]) if problem.args else "", 60)
        return f"there is no field {field}: guard it with has(…)"
    if isinstance(problem, TypeError):
        return "an operand has another type than the operator takes: a null, or text against a number"
    return printable(_WRAPPING.sub("", " ".join(str(problem).split())), 160)


def _quoted(text: str) -> str:
    return repr(printable(text, 100))


def _nearest(name: str, known: Collection[str], shown: Collection[str] = ()) -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(shown or known))})"
