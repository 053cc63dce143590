"""The Bench: a cell's only way to the world, with the contract's allow-list enforced on every call."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.errors import Denied
from contracts.nouns import Finding

Tool = Callable[[Sequence[dict[str, Any]]], Sequence[Any]]
"""Answers a list of calls, each by its keyword arguments, in order. One round trip for a whole batch."""


class ToolDenied(Denied):
    """The contract does not allow the tool; the call was not made."""

    code = "tool.denied"


class ToolUnknown(Denied):
    """No tool of that name is on this bench."""

    code = "tool.unknown"


def call_key(tool: str, arguments: Mapping[str, Any]) -> str:
    """Return what makes two calls the same call."""
    return tool + json.dumps(arguments, sort_keys=True, default=str)


class ItemBench:
    """The Bench of one item in one attempt."""

    def __init__(
        self, *, allowed: frozenset[str], tools: Mapping[str, Tool], answers: Mapping[str, Any], as_of: str,
        findings: Sequence[Finding] = (),
    ) -> None:  # fmt: skip
        self._allowed, self._tools, self._answers = allowed, tools, answers
        self.as_of, self.findings = as_of, findings

    def call(self, tool: str, **arguments: Any) -> Any:
        """Return the tool's answer, from the batch's look-up where that has it."""
        if tool not in self._allowed:
            raise ToolDenied(f"tool {tool!r} is not in this contract's tools.allow: {', '.join(sorted(self._allowed)) or 'none'}")
        key = call_key(tool, arguments)
        if key in self._answers:
            return self._answers[key]
        if tool not in self._tools:
            raise ToolUnknown(f"no tool named {tool!r}; known: {', '.join(sorted(self._tools)) or 'none'}")
        return self._tools[tool]([arguments])[0]


def look_up(wanted: Sequence[tuple[str, dict[str, Any]]], tools: Mapping[str, Tool], allowed: frozenset[str]) -> dict[str, Any]:
    """Return the answers to many calls by their `call_key`, each tool asked once; denied tools are left to `call`."""
    by_tool: dict[str, dict[str, dict[str, Any]]] = {}
    for tool, arguments in wanted:
        if tool in allowed and tool in tools:
            by_tool.setdefault(tool, {})[call_key(tool, arguments)] = arguments
    answers: dict[str, Any] = {}
    for tool, calls in by_tool.items():
        answers.update(zip(calls, tools[tool](list(calls.values())), strict=True))
    return answers
