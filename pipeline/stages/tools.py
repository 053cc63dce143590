"""Tools that a cell may call through its Bench, and the reads that the gate makes: bounded, and of one workspace.

Each answers a list of calls in one statement where the arguments allow it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from uuid import UUID

from queues.database import Connection, transaction
from workcells.bench import Tool

_MENTIONS = """
SELECT asked, key, revision, kind, state, title, body, facts
  FROM mentions_of(%s, %s, %s, %s)
"""
_SEARCH = """
SELECT ask, key, revision, kind, state, title, body, facts, matched, of_terms, score
  FROM search_subjects(%s, %s, %s, %s, %s, %s, %s)
"""
_SUBJECTS = """
SELECT key, revision, kind, state, title, body, facts
  FROM subjects_by_key(%s, %s, %s)
"""


Connections = Callable[[], AbstractContextManager[Connection]]
"""Gives a connection for a moment."""


def tools_for(connections: Connections, workspace: UUID, flow: str) -> Mapping[str, Tool]:
    """Return the tools by name, bound to one workspace and flow."""
    return {
        "mentions_of": partial(_mentions_of, connections, workspace, flow),
        "search_subjects": partial(_search, connections, workspace, flow),
    }


def _mentions_of(connections: Connections, workspace: UUID, flow: str, calls: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Answer `key`, `limit`: the subjects whose text names the key, pull requests first."""
    most = max((int(call.get("limit", 50)) for call in calls), default=50)
    found: dict[str, list[dict[str, Any]]] = {}
    with connections() as conn, transaction(conn, workspace):
        for asked, *rest in conn.execute(_MENTIONS, [workspace, flow, [call["key"] for call in calls], most], prepare=True):
            found.setdefault(asked, []).append(_subject(rest))
    return [found.get(call["key"], [])[: int(call.get("limit", 50))] for call in calls]


def _search(connections: Connections, workspace: UUID, flow: str, calls: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Answer `terms`, `key`, `kinds`, `limit`: the subjects that share the rarest words, best first."""
    answers: list[list[dict[str, Any]]] = [[] for _ in calls]
    groups: dict[tuple[tuple[str, ...] | None, int], list[int]] = {}
    for no, call in enumerate(calls):
        kinds = call.get("kinds")
        groups.setdefault((tuple(kinds) if kinds else None, int(call.get("limit", 20))), []).append(no)
    with connections() as conn, transaction(conn, workspace):
        for (kinds, limit), numbers in groups.items():
            asks = [(no, calls[no].get("key"), term) for no in numbers for term in calls[no]["terms"]]
            columns = [list(column) for column in zip(*asks, strict=True)] or [[], [], []]
            rows = conn.execute(_SEARCH, [workspace, flow, *columns, list(kinds) if kinds else None, limit], prepare=True)
            for ask, *rest, matched, of_terms, score in rows:
                answers[ask].append(_subject(rest) | {"matched": matched, "of_terms": of_terms, "score": score})
    return answers


def _subject(row: Sequence[Any]) -> dict[str, Any]:
    key, revision, kind, state, title, body, facts = row
    fields: dict[str, Any] = json.loads(facts)
    return fields | {"key": key, "revision": revision, "kind": kind, "state": state, "title": title, "body": body}


def read_subjects(conn: Connection, workspace: UUID, flow: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return the indexed subjects of a flow by key, with revision, title, body and their other fields.

    Call inside a transaction of the workspace.
    """
    return [_subject(row) for row in conn.execute(_SUBJECTS, [workspace, flow, list(keys)])]
