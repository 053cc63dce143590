"""The syntax tree of a CEL expression: the engine tells names and functions, and neither scopes, fields nor loops."""

import re
from collections.abc import Iterator
from typing import NamedTuple

LOOPS = frozenset(("all", "exists", "exists_one", "map", "filter"))
_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | //[^\n]* )
    | (?P<text> (?:[bB]?[rR]|[rR][bB]) (?: '{3}.*?'{3} | "{3}.*?"{3} | '[^'\n]*' | "[^"\n]*" )
              | [bB]? (?: '{3}(?:\\.|[^\\])*?'{3} | "{3}(?:\\.|[^\\])*?"{3} )
              | [bB]? (?: '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" ) )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<number> [0-9][0-9A-Za-z.]* )
    | (?P<sign> && | \|\| | == | != | <= | >= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_CHAINS = (("||",), ("&&",), ("<", "<=", ">", ">=", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))
"""Binary operators, the loosest first."""


class NotParsed(Exception):
    """The text is not an expression that this module can read."""


class Literal(NamedTuple):
    """A number, true, false, null, or a text as it is written, with its quotes."""

    text: str
    is_text: bool


class Name(NamedTuple):
    """A variable."""

    name: str


class Select(NamedTuple):
    """Fields of a value, one inside the other: `base.a.b`."""

    base: "Node"
    fields: tuple[str, ...]


class Index(NamedTuple):
    """One element of a value: `base[key]`."""

    base: "Node"
    key: "Node"


class Call(NamedTuple):
    """A function, or a method when it has a receiver."""

    name: str
    receiver: "Node | None"
    arguments: tuple["Node", ...]


class Loop(NamedTuple):
    """`over.all(bound, body)` and the like; `map` may have two bodies."""

    kind: str
    over: "Node"
    bound: str
    bodies: tuple["Node", ...]


class Chain(NamedTuple):
    """Operands joined by operators of one precedence, also `?` (three operands), `[` and `{`."""

    operators: tuple[str, ...]
    operands: tuple["Node", ...]


Node = Literal | Name | Select | Index | Call | Loop | Chain


def parse(text: str) -> Node:
    """Return the tree of an expression that the engine accepts. Raises NotParsed."""
    parser = _Parser([(m.lastgroup or "", m[0]) for m in _TOKEN.finditer(text) if m.lastgroup != "skip"])
    try:
        tree = parser.expression()
    except RecursionError:
        raise NotParsed("it is nested too deep") from None
    if parser.at < len(parser.tokens) - 1:
        raise NotParsed(f"cannot read it from {parser.text!r} on")
    return tree


def children(node: Node) -> tuple[Node, ...]:
    """Return the parts of a node, in the order of the text."""
    match node:
        case Select(base, _):
            return (base,)
        case Index(base, key):
            return (base, key)
        case Call(_, receiver, arguments):
            return arguments if receiver is None else (receiver, *arguments)
        case Loop(_, over, _, bodies):
            return (over, *bodies)
        case Chain(_, operands):
            return operands
    return ()


class Visit(NamedTuple):
    """One node with what surrounds it."""

    node: Node
    bound: frozenset[str]
    """Names that the loops around the node bind."""
    loops: int
    """How many loops the node is inside of."""


def walk(tree: Node) -> Iterator[Visit]:
    """Yield every node in the order of the text, without recursion."""
    rest = [Visit(tree, frozenset(), 0)]
    while rest:
        visit = rest.pop()
        yield visit
        node, bound, loops = visit
        if isinstance(node, Loop):
            inside = bound | {node.bound}
            rest += [Visit(body, inside, loops + 1) for body in reversed(node.bodies)]
            rest.append(Visit(node.over, bound, loops))
        else:
            rest += [Visit(child, bound, loops) for child in reversed(children(node))]


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = [*tokens, ("end", "")]
        self.at = 0

    @property
    def text(self) -> str:
        """The token to read next; for a literal text none, so that it is never taken for an operator."""
        kind, text = self.tokens[self.at]
        return "" if kind == "text" else text

    def take(self) -> str:
        text = self.tokens[self.at][1]
        self.at += 1
        return text

    def expect(self, sign: str) -> None:
        if self.text != sign:
            raise NotParsed(f"expected {sign!r}, got {self.tokens[self.at][1]!r}")
        self.at += 1

    def expression(self) -> Node:
        first = self.chain()
        if self.text != "?":
            return first
        self.at += 1
        yes = self.chain()
        self.expect(":")
        return Chain(("?",), (first, yes, self.expression()))

    def chain(self) -> Node:
        """Return operands joined by binary operators, by precedence and without a call for each level of it."""
        operands: list[list[Node]] = [[] for _ in _CHAINS]
        operators: list[list[str]] = [[] for _ in _CHAINS]
        while True:
            node = self.unary()
            now = next((at for at, signs in enumerate(_CHAINS) if self.text in signs), -1)
            for at in range(len(_CHAINS) - 1, now, -1):  # what binds tighter than the operator ahead
                if operands[at]:
                    node = Chain(tuple(operators[at]), (*operands[at], node))
                    operands[at], operators[at] = [], []
            if now < 0:
                return node
            operands[now].append(node)
            operators[now].append(self.take())

    def unary(self) -> Node:
        signs = []
        while self.text in ("!", "-"):
            signs.append(self.take())
        node = self.member()
        return Chain(("!",), (node,)) if signs else node

    def member(self) -> Node:
        node = self.primary()
        while self.text in (".", "["):
            if self.take() == "[":
                if self.text == "?":
                    self.at += 1
                node = Index(node, self.expression())
                self.expect("]")
                continue
            if self.text == "?":
                self.at += 1
            name = self.name()
            if self.text == "(":
                node = self.method(node, name)
            elif isinstance(node, Select):
                node = Select(node.base, (*node.fields, name))
            else:
                node = Select(node, (name,))
        return node

    def method(self, receiver: Node, name: str) -> Node:
        arguments = self.arguments("(", ")")
        if name in LOOPS and len(arguments) >= 2 and isinstance(arguments[0], Name):
            return Loop(name, receiver, arguments[0].name, arguments[1:])
        return Call(name, receiver, arguments)

    def primary(self) -> Node:
        kind, text = self.tokens[self.at]
        if kind == "text" or kind == "number" or text in ("true", "false", "null"):
            self.at += 1
            return Literal(text, kind == "text")
        if text == ".":  # a name from the root, or a number without its zero
            self.at += 1
            return self.primary()
        if text == "(":
            self.at += 1
            node = self.expression()
            self.expect(")")
            return node
        if text == "[":
            return Chain(("[",), self.arguments("[", "]"))
        if text == "{":
            return Chain(("{",), self.arguments("{", "}"))
        name = self.name()
        return Call(name, None, self.arguments("(", ")")) if self.text == "(" else Name(name)

    def arguments(self, opened: str, closed: str) -> tuple[Node, ...]:
        self.expect(opened)
        found: list[Node] = []
        while self.text != closed:
            if self.text == "?":
                self.at += 1
            found.append(self.expression())
            if self.text not in (",", ":"):
                break
            self.at += 1
        self.expect(closed)
        return tuple(found)

    def name(self) -> str:
        if self.tokens[self.at][0] != "name":
            raise NotParsed(f"expected a name, got {self.tokens[self.at][1]!r}")
        return self.take()
