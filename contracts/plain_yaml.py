"""YAML by its plain subset: parser events become JSON values, each with its line; what is ambiguous is refused."""

import math
import re
from typing import Any, NoReturn

import yaml
from contracts.errors import BadInput
from contracts.excerpts import pointer_part, printable

MAX_NESTING = 100
EXACT = 2**53 - 1
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False} | dict.fromkeys(
    ("", "~", "null", "Null", "NULL")
)
_FALSE_FRIENDS = {word: plain for words, plain in (("yes on", "true"), ("no off", "false")) for word in words.split()}


class YamlReader:
    """Builds a value from parser events: without recursion, and with a line for every part."""

    def __init__(self, name: str, error: type[BadInput]) -> None:
        self.name, self.error = name, error
        self.value: Any = None
        self.found = False
        self.lines: dict[str, int] = {}
        self._open: list[tuple[Any, str]] = []
        self._key: list[str | None] = []
        """For each open mapping, the key whose value comes next; for a sequence always None."""

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            if self.found:
                self._refuse(event, "a second document begins: one file holds one document")
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(event, f"alias *{printable(str(event.anchor), 40)}: write the value out")
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()
            self._key.pop()

    def _take_node(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, f"anchor &{printable(str(event.anchor), 40)}: write the value out where it is needed")
        if event.tag is not None:
            self._refuse(event, f"tag {printable(str(event.tag), 40)}: write a plain value")
        if self._awaits_key():
            self._take_key(event)
            return
        if isinstance(event, yaml.ScalarEvent):
            self._place(event, self._scalar(event) if event.implicit[0] else event.value)
            return
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        pointer = self._place(event, container)
        if len(self._open) >= MAX_NESTING:
            self._refuse(event, f"nested deeper than {MAX_NESTING} levels")
        self._open.append((container, pointer))
        self._key.append(None)

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], dict) and self._key[-1] is None

    def _take_key(self, event: Any) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, "a key is a list or mapping: keys are plain names")
        if event.value in self._open[-1][0]:
            self._refuse(event, f"key {printable(event.value)!r} is there twice in one mapping: keep one")
        self._key[-1] = event.value
        self.lines[self._open[-1][1] + pointer_part(event.value)] = _mark(event).line + 1

    def _place(self, event: Any, value: Any) -> str:
        self.found = True
        if not self._open:
            self.value = value
            return ""
        parent, above = self._open[-1]
        if isinstance(parent, list):
            pointer = f"{above}/{len(parent)}"
            parent.append(value)
            self.lines[pointer] = _mark(event).line + 1
            return pointer
        key = self._key[-1]
        assert key is not None
        parent[key] = value
        self._key[-1] = None
        return above + pointer_part(key)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if text in _WORDS:
            return _WORDS[text]
        if text.lower() in _FALSE_FRIENDS and text in (text.lower(), text.upper(), text.title()):
            self._refuse(
                event,
                f"{text} may mean a truth value or a word: write {_FALSE_FRIENDS[text.lower()]}, or '{text}' in quotes",
            )
        if _LEADING_ZERO.fullmatch(text):
            self._refuse(event, f"{printable(text)} has a leading zero: write the number without it, or the text in quotes")
        if _INT.fullmatch(text):
            if len(text) > 17 or abs(int(text, 0)) > EXACT:
                self._refuse(event, f"{printable(text, 40)} has more digits than are exact: write it in quotes")
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self._refuse(event, f"{printable(text, 40)} is too large to be a number")
            return number
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{text} is not a number that JSON has: write null, or '{text}' in quotes")
        return text

    def _refuse(self, event: yaml.Event, why: str) -> NoReturn:
        raise self.error(f"{self.name} line {_mark(event).line + 1}, column {_mark(event).column + 1}: {why}")


def _mark(event: yaml.Event) -> Any:
    assert event.start_mark is not None, "events of a text always say where they begin"
    return event.start_mark
