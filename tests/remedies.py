"""Remedies as the product writes them: every command line in a text of ours, read from the syntax tree."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ROOMS = ("contracts", "queues", "artifacts", "workcells", "pipeline", "console")
_CALL = re.compile(r"(?<![\w./-])(?:\./)?shopfloor ([a-z]+)")
NOT_COMMANDS = {"as", "does", "is", "keeps", "knows", "needs", "schema", "that", "where", "wrote"}
"""Words that follow our name in a sentence."""
END = re.compile(r"\n|  |`|, |; |\. |\)| · | → |: |$")
"""What may follow a command: the end of a line, two blanks, or punctuation. Words alone would be read as its arguments."""
_VALUE = re.compile(r"\{([^{}]*)\}")


class Remedy(NamedTuple):
    """A command line in a text of ours."""

    place: str
    """File and line."""
    line: str
    """From `shopfloor` on; values that are filled in later stand in braces, as the expressions that give them."""
    is_mention: bool
    """Named between backquotes in a sentence, not to be typed as it stands."""
    is_message: bool
    """In the message of an error, which is printed as it is: what to type belongs into its hint."""
    is_raw: bool
    """Printed without a look at how the reader has to call shopfloor."""


class Text(NamedTuple):
    """A text in the source, with the nodes that it stands in, the innermost first."""

    place: str
    text: str
    node: ast.AST
    above: tuple[ast.AST, ...]


@cache
def written() -> tuple[Remedy, ...]:
    """Return every command line that a text of the product holds."""
    return tuple(remedy for text in texts() for remedy in _remedies(text))


@cache
def texts() -> tuple[Text, ...]:
    """Return every string of the product but docstrings, values that it is put together with in braces."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return tuple(text for path in [*sorted(files), ROOT / "shopfloor"] for text in _texts_of(path))


def _texts_of(path: Path) -> Iterator[Text]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    above: dict[ast.AST, ast.AST] = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(above[node], ast.Expr):
            continue  # a docstring: help is tested with the documentation
        chain = tuple(_ancestors(node, above))
        if (text := _shape(node)) is not None and (not chain or _shape(chain[0]) is None) and not _is_inlined(node, chain):
            yield Text(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", text, node, chain)


def _ancestors(node: ast.AST, above: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in above and not isinstance(above[node], ast.stmt):
        node = above[node]
        yield node


def _shape(node: ast.AST) -> str | None:
    """Return a string with what is only known later in braces; None where the node is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_shape(part) or "" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _in_braces(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _shape(node.left), _shape(node.right)
        if left is None and right is None:
            return None
        return (_in_braces(node.left) if left is None else left) + (_in_braces(node.right) if right is None else right)
    return None


def _in_braces(node: ast.expr) -> str:
    if _is_as_typed(node):
        assert isinstance(node, ast.Call)
        return _shape(node.args[0]) or ""
    return "{" + ast.unparse(node).replace("{", "(").replace("}", ")") + "}"


def _is_as_typed(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "as_typed"


def _is_inlined(node: ast.AST, above: tuple[ast.AST, ...]) -> bool:
    """Return whether a string is the text of an `as_typed(…)` that another string holds."""
    return len(above) > 1 and _is_as_typed(above[0]) and isinstance(above[1], ast.FormattedValue)


def _remedies(text: Text) -> Iterator[Remedy]:
    # Strings within the braces come by themselves.
    plain = _VALUE.sub(lambda value: "{" + "_" * len(value[1]) + "}", text.text)
    for match in _CALL.finditer(plain):
        if match[1] in NOT_COMMANDS:
            continue
        rest = text.text[match.start() :]
        end = END.search(_VALUE.sub(lambda value: "x" * len(value[0]), rest))
        assert end is not None
        yield Remedy(
            text.place,
            rest[: end.start()].strip(),
            is_mention=text.text[: match.start()].endswith("`"),
            is_message=_is_message(text),
            is_raw=_is_raw(text, match.start()),
        )


def _is_message(text: Text) -> bool:
    from docs.generate import error_classes

    inner: ast.AST = text.node
    for node in text.above:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in error_classes():
            return bool(node.args) and node.args[0] is inner
        inner = node
    return False


def _is_raw(text: Text, start: int) -> bool:
    """Return whether a string is handed to click as it is: neither `say` nor `as_typed` sees it."""
    calls = [ast.unparse(node.func) for node in text.above if isinstance(node, ast.Call)]
    for called in calls:
        if called in ("say", "as_typed"):
            return False
        if called in ("click.echo", "click.secho", "click.confirm"):
            inlined = [n for n in ast.walk(text.node) if _is_as_typed(n)]
            return not inlined
    return False


def values_in(line: str) -> list[str]:
    """Return the expressions that a command line is put together with."""
    return _VALUE.findall(line)


def filled(line: str, values: dict[str, str]) -> str:
    """Return a command line with samples in place of the expressions."""
    return _VALUE.sub(lambda value: values[value[1]], line)
