"""The shelf: the rows of what items left behind, inserted a batch at a time."""

from collections import defaultdict
from typing import Any, NamedTuple
from uuid import UUID

from artifacts.blobs import write_bodies
from queues.database import Connection

# Every record starts with the item it belongs to; its fields are the columns of its table, in order.


class Body(NamedTuple):
    """Bytes under their name, beside the item."""

    item_id: UUID
    sha256: bytes
    workspace_id: UUID
    bytes: bytes


class Attempt(NamedTuple):
    """One execution of a cell or an applier, once it has ended."""

    item_id: UUID
    fence: int
    workspace_id: UUID
    contract_id: int | None
    started_at: Any
    ended_at: Any
    stage: str
    outcome: str
    cause: str | None
    input_sha256: bytes
    output_sha256: bytes | None
    message: str
    traceback: str = ""
    """Of an execution that raised: secrets blanked out, at most 4,000 characters."""


class Artifact(NamedTuple):
    """Typed bytes that an item left behind."""

    item_id: UUID
    id: UUID
    workspace_id: UUID
    fence: int
    contract_id: int | None
    kind: str
    sha256: bytes
    size_bytes: int
    store: str


class Input(NamedTuple):
    """Another subject, at a revision, that an artifact rests on."""

    item_id: UUID
    artifact_id: UUID
    workspace_id: UUID
    subject: str
    revision: str


class EvidenceRow(NamedTuple):
    """One claim of an artifact, with its source as canonical JSON."""

    item_id: UUID
    artifact_id: UUID
    no: int
    workspace_id: UUID
    claim: str
    stance: str
    confidence: float
    source: str


class Verdict(NamedTuple):
    """The gate's decision on an artifact, its checks as canonical JSON."""

    item_id: UUID
    id: UUID
    workspace_id: UUID
    fence: int
    contract_id: int
    artifact_sha256: bytes
    passed: bool
    body: bytes


class FindingRow(NamedTuple):
    """One typed observation about an item's work."""

    item_id: UUID
    id: UUID
    workspace_id: UUID
    fence: int
    stage: str
    code: str
    message: str
    place: str


class ProposalRow(NamedTuple):
    """A mutation that somebody may approve; `sha256` names the envelope.

    Not inserted here: the database's function `propose` adds where it belongs, who submitted it, and its state.
    """

    id: UUID
    item_id: UUID
    action: str
    target: str
    adapter: str
    sha256: bytes
    precondition_sha256: bytes
    epoch: int
    finding: str
    confidence: float
    author: str
    expires_at: Any


Record = Body | Attempt | Artifact | Input | EvidenceRow | Verdict | FindingRow | ProposalRow

_TABLES: dict[type, tuple[str, tuple[str, ...], str]] = {
    Attempt: ("attempts", ("uuid", "int", "uuid", "int", "timestamptz", "timestamptz", "text", "text", "text", "bytea", "bytea", "text", "text"), ""),
    Artifact: ("artifacts", ("uuid", "uuid", "uuid", "int", "int", "text", "bytea", "bigint", "text"), "created_at"),
    Input: ("artifact_inputs", ("uuid", "uuid", "uuid", "text", "text"), ""),
    EvidenceRow: ("evidence", ("uuid", "uuid", "smallint", "uuid", "text", "text", "real", "text"), ""),
    Verdict: ("verdicts", ("uuid", "uuid", "uuid", "int", "int", "bytea", "bool", "bytea"), "at"),
    FindingRow: ("findings", ("uuid", "uuid", "uuid", "int", "text", "text", "text", "text"), "at"),
}  # fmt: skip


def _insert(kind: type) -> str:
    table, types, clock = _TABLES[kind]
    columns = ", ".join(kind._fields)  # type: ignore[attr-defined]
    arrays = ", ".join(f"%b::{name}[]" for name in types)
    if clock:
        return f"INSERT INTO {table} ({columns}, {clock}) SELECT *, clock() FROM unnest({arrays})"
    return f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays})"


_INSERT = {kind: _insert(kind) for kind in _TABLES}


def write(conn: Connection, records: list[Record]) -> None:
    """Insert records, one statement a table; nothing may be there already but a body.

    The caller passes only records of items whose fenced move succeeded in this transaction.
    """
    by_kind: dict[type, list[Record]] = defaultdict(list)
    for record in records:
        by_kind[type(record)].append(record)
    write_bodies(conn, by_kind.pop(Body, []))  # type: ignore[arg-type]
    for kind, rows in by_kind.items():
        conn.execute(_INSERT[kind], [list(column) for column in zip(*rows, strict=True)], prepare=True)
