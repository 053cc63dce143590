"""Rules as text: CEL expressions, checked when they are loaded, bounded and quick when they run."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from contracts.cel_engine import load_engine
from contracts.cel_syntax import Call, Literal, Loop, Name, Node, NotParsed, Select, parse, walk
from contracts.errors import BadContract, BadInput, ExpressionFailed
from contracts.excerpts import printable
from contracts.expression_cost import MAX_PATTERN_STEPS, MAX_STEPS, CostLimit, pattern_of, pattern_steps

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
_WRAPPING = re.compile(r"^Function '\w+' error: (?:Python function call failed: \w+: )?|\.? Check function arguments and their types\.$")


class Expression:
    """A compiled expression over named variables. Immutable, and safe to evaluate from many threads."""

    __slots__ = ("_limits", "_program", "_wanted", "fields", "text")

    def __init__(self, text: str, *, variables: Collection[str], place: str = "", error: type[BadInput] = BadContract) -> None:
        """Compile `text`. Raises `error`, starting with `place`, for anything that is wrong before data is seen."""
        self.text = text
        before = f"{place}: " if place else ""
        if len(text) > MAX_CHARS:
            raise error(f"{before}expression of {len(text)} characters: at most {MAX_CHARS}, split it")
        self._program = _compile(text, before, error)
        try:
            tree = parse(text)
        except NotParsed as problem:
            raise error(f"{before}{problem}, in {_quoted(text)}: write it more simply") from problem
        self._limits: tuple[CostLimit, ...] = (CostLimit(tree),)
        scan = _Scan(tree, frozenset(variables))
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
        whole._limits = tuple(limit for part in parts for limit in part._limits)  # noqa: SLF001 - its own class
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
        for limit in self._limits:
            if not limit.is_within(given):
                raise ExpressionFailed(
                    f"{_quoted(self.text)}: needs more than {MAX_STEPS:,} steps for these values, as loops over long lists do",
                    code="expression.cost",
                )
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


class _Scan:
    """What an expression refers to, read from its tree."""

    def __init__(self, tree: Node, variables: Collection[str]) -> None:
        self.loops = 0
        self.unknown: list[str] = []
        self.patterns: list[Node] = []
        """What `matches` is given."""
        self.fields: dict[str, frozenset[str] | None] = {}
        selected: set[int] = set()
        for node, bound, loops in walk(tree):
            if isinstance(node, Loop):
                self.loops = max(self.loops, loops + 1)
            elif isinstance(node, Call) and node.name == "matches":
                self.patterns += node.arguments[-1:]
            elif isinstance(node, Select) and isinstance(node.base, Name) and node.base.name not in bound:
                selected.add(id(node.base))
                self._uses(node.base.name, node.fields[0], variables)
            elif isinstance(node, Name) and node.name not in bound and id(node) not in selected:
                self._uses(node.name, None, variables)

    def _uses(self, name: str, field: str | None, variables: Collection[str]) -> None:
        if name not in variables:
            self.unknown.append(name)
            return
        seen = self.fields.get(name, frozenset())
        self.fields[name] = None if seen is None or field is None else seen | {field}


def _wanted(fields: Mapping[str, frozenset[str] | None]) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    return tuple((name, None if named is None else tuple(sorted(named))) for name, named in fields.items())


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


def _refuse_pattern(pattern: Node, before: str, error: type[BadInput]) -> None:
    if not isinstance(pattern, Literal) or not pattern.is_text:
        raise error(f"{before}matches takes a pattern that is written in the expression, in quotes: nobody could bound another one's work")
    try:
        _engine.compile(f"''.matches({pattern.text})").execute({})
    except Exception as problem:
        raise error(f"{before}matches({printable(pattern.text)}): {_explain(problem)}") from problem
    if (steps := pattern_steps(pattern_of(pattern))) > MAX_PATTERN_STEPS:
        raise error(
            f"{before}matches({printable(pattern.text)}): compiling it takes about {steps:,} steps, at most {MAX_PATTERN_STEPS:,}: "
            r"use smaller repeat counts, or [a-z0-9_] for \w"
        )


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
