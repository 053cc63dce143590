"""What an expression may cost, worked out from the sizes of its values before the engine runs.

The engine has no limit of its own and cannot be interrupted: a loop in a loop over 100,000 elements would hold a worker
for hours. One step is about 60 ns. The engine copies a list whenever an expression names it, so that `size(row.tags)`
in a loop over `row.tags` is quadratic too, and `map` and `filter` copy what they have so far for each element.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from contracts.cel_syntax import Call, Chain, Index, Literal, Loop, Name, Node, Select, walk

MAX_STEPS = 5_000_000
"""Steps of one evaluation: about a third of a second."""
MAX_PATTERN_STEPS = 100_000
"""Steps to compile one pattern, which the engine does again for each call of `matches`."""

_CHARS_PER_STEP = 64
_CALL_STEPS = 20
"""A function of ours is a call back into Python."""
_CLASS_STEPS = 4000
r"""A class of Unicode such as `\w` compiles to many states."""
_NUMBER_CHARS = 32
_PATTERN_PART = re.compile(
    r"(?P<group>\()|(?P<end>\))|\{(?P<low>\d+)(?P<open>,)?(?P<high>\d*)\}|(?P<wide>\\[wWdDsSpPbB]|\.|\[\^)|(?P<other>\\.|.)", re.DOTALL
)


class Size(NamedTuple):
    """An upper bound for one value."""

    length: int
    """Elements of a list or map, characters of a text; 0 for anything else."""
    weight: int
    """Steps to copy or compare the whole of it."""
    value: Any = None
    """The value itself where it is known: the fields of a map have sizes of their own."""


_SMALL = Size(0, 1)


class _TooCostly(Exception):
    pass


class CostLimit:
    """The cost of one expression as a function of its values. Immutable, and safe to use from many threads."""

    __slots__ = ("_tree",)

    def __init__(self, tree: Node) -> None:
        self._tree = tree if any(_is_costly(visit.node) for visit in walk(tree)) else None

    def is_within(self, values: Mapping[str, Any]) -> bool:
        """Return whether evaluating takes at most MAX_STEPS; always True for what looks at each value a few times only."""
        if self._tree is None:
            return True
        try:
            _Estimate().cost(self._tree, {name: _lazy_size(value) for name, value in values.items()})
        except (_TooCostly, RecursionError):
            return False
        return True


def pattern_steps(pattern: str) -> int:
    """Return an upper bound for the steps that compiling a regular expression takes."""
    totals, last = [0], [0]
    for part in _PATTERN_PART.finditer(pattern):
        if part["group"]:
            totals.append(0)
            last.append(0)
        elif part["end"]:
            if len(totals) > 1:
                group = totals.pop()
                last.pop()
                totals[-1] += group
                last[-1] = group
        elif part["low"]:
            times = max(int(part["low"][:6]), int(part["high"][:6] or 0), 1)
            totals[-1] += last[-1] * (times - 1)
            last[-1] *= times
        else:
            last[-1] = _CLASS_STEPS if part["wide"] in (r"\w", r"\W", r"\p", r"\P") else 40 if part["wide"] else 10
            totals[-1] += last[-1]
    return sum(totals)


def _is_costly(node: Node) -> bool:
    """Return whether a node can make the work more than a few looks at each value."""
    return (
        isinstance(node, Loop) or (isinstance(node, Call) and node.name == "matches") or (isinstance(node, Chain) and "+" in node.operators)
    )


def _lazy_size(value: Any) -> Size:
    return Size(len(value), 1, value) if isinstance(value, Mapping) else size_of(value)


def size_of(value: Any) -> Size:
    """Return the size of a JSON value."""
    if isinstance(value, str):
        return Size(len(value), 1 + len(value) // _CHARS_PER_STEP)
    if isinstance(value, (Mapping, list, tuple)):
        return Size(len(value), _weight(value), value)
    return Size(_NUMBER_CHARS if isinstance(value, (int, float)) else 0, 1)


def _weight(value: Any) -> int:
    weight, rest = 0, [value]
    while rest:
        part = rest.pop()
        weight += 1
        if isinstance(part, str):
            weight += len(part) // _CHARS_PER_STEP
        elif isinstance(part, Mapping):
            weight += len(part)
            rest += part.values()
        elif isinstance(part, (list, tuple)):
            rest += part
    return weight


class _Estimate:
    """One estimate: adds up steps and gives up beyond MAX_STEPS."""

    def __init__(self) -> None:
        self.times = 1
        """How often what is being looked at runs: the product of the loops around it."""
        self.steps = 0

    def spend(self, steps: int) -> None:
        self.steps += steps * self.times
        if self.steps > MAX_STEPS:
            raise _TooCostly

    def cost(self, node: Node, names: Mapping[str, Size]) -> Size:
        """Spend what a node costs, return how large its value can be."""
        match node:
            case Literal(text, is_text):
                return Size(len(text), 1 + len(text) // _CHARS_PER_STEP) if is_text else Size(_NUMBER_CHARS, 1)
            case Name(name):
                size = names.get(name, _SMALL)
                if isinstance(size.value, Mapping) and size.weight == 1:  # a whole row, not one of its fields
                    size = size_of(size.value)
                self.spend(size.weight)
                return size
            case Select(base, fields):
                return self.select(base, fields, names)
            case Index(base, key):
                size = self.cost(base, names)
                self.cost(key, names)
                return Size(max(size.length, _longest(size)), size.weight)
            case Loop():
                return self.loop(node, names)
            case Call():
                return self.call(node, names)
            case Chain(operators, operands):
                return self.chain(operators, [self.cost(operand, names) for operand in operands])

    def select(self, base: Node, fields: tuple[str, ...], names: Mapping[str, Size]) -> Size:
        size = names.get(base.name, _SMALL) if isinstance(base, Name) else self.cost(base, names)
        for field in fields:
            if isinstance(size.value, Mapping):
                size = _lazy_size(size.value.get(field))
            else:
                size = Size(max(size.length, _longest(size)), size.weight)
        if isinstance(size.value, Mapping):
            size = size_of(size.value)
        self.spend(size.weight)
        return size

    def loop(self, loop: Loop, names: Mapping[str, Size]) -> Size:
        over = self.cost(loop.over, names)
        times, self.times = self.times, self.times * min(over.length, over.weight)
        element = _element_of(over)
        inside = {**names, loop.bound: element}
        self.spend(1)
        sizes = [self.cost(body, inside) for body in loop.bodies]
        self.times = times
        if loop.kind not in ("map", "filter"):
            return _SMALL
        made = sizes[-1] if loop.kind == "map" else element
        length = min(over.length, over.weight)
        result = Size(length, 1 + length * made.weight)
        self.spend(length * result.weight)
        return result

    def call(self, call: Call, names: Mapping[str, Size]) -> Size:
        if call.name == "has" and call.arguments and isinstance(call.arguments[0], Select):
            self.spend(1)
            return _SMALL
        parts = ([] if call.receiver is None else [call.receiver]) + list(call.arguments)
        sizes = [self.cost(part, names) for part in parts]
        weight = sum(size.weight for size in sizes)
        self.spend(_CALL_STEPS + weight)
        if call.name == "matches":
            # In the worst case the engine looks at a text character by character.
            self.spend(sizes[0].length + pattern_steps(_pattern_of(call) or ""))
            return _SMALL
        longest = max((size.length for size in sizes), default=0)
        return Size(3 * longest + _NUMBER_CHARS, 1 + 3 * weight)  # lower case can be three times as long

    def chain(self, operators: tuple[str, ...], sizes: list[Size]) -> Size:
        weight = sum(size.weight for size in sizes)
        if "+" in operators:
            # a + b + c copies a twice.
            self.spend(weight * len(sizes))
            return Size(sum(size.length for size in sizes), weight)
        self.spend(weight)
        if operators in (("[",), ("{",)):
            return Size(max(len(sizes), max((size.length for size in sizes), default=0)), weight + 1)
        if operators == ("?",):
            return Size(max(size.length for size in sizes), max(size.weight for size in sizes))
        return _SMALL


def _element_of(size: Size) -> Size:
    """Return a bound for every element of a list, or key of a map."""
    if isinstance(size.value, (list, tuple)):
        if not size.value:
            return _SMALL
        sizes = [size_of(element) for element in size.value]
        return Size(max(each.length for each in sizes), max(each.weight for each in sizes))
    return Size(max(size.length, _longest(size)), size.weight)


def _longest(size: Size) -> int:
    """Return a bound for the length of anything inside a value."""
    return size.weight * _CHARS_PER_STEP


def _pattern_of(call: Call) -> str | None:
    literal = call.arguments[-1] if call.arguments else None
    return pattern_of(literal) if isinstance(literal, Literal) and literal.is_text else None


def pattern_of(literal: Literal) -> str:
    """Return the regular expression that a literal text means, near enough to weigh it."""
    head = literal.text[: literal.text.index(literal.text[-1])]
    return literal.text if "r" in head.lower() else literal.text.replace("\\\\", "\\")
