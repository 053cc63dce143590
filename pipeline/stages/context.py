"""The context of a stage: what its step may reach. One per worker thread, built when the thread first claims."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Cursor
from artifacts.blobs import BlobStore, send_body_query, verified_bodies
from contracts.attempts import Ceilings
from contracts.errors import BadContract, NotFound, ShopfloorError, Unavailable
from contracts.floor import Floor, parse_floor
from contracts.instants import as_text
from contracts.language import Contract, parse_contract
from contracts.lifecycle import Stage
from pipeline.stages.pace import Pace
from pipeline.stages.work import Work
from queues.claims import Claim, Claimed
from queues.database import Connection, one_value, transaction
from workcells.appliers import Applier
from workcells.registry import Cell, Registry


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step needs of the batch that an item came in: the floor and the as-of that hold for it."""

    floor_id: UUID
    as_of: str
    is_read: bool
    """False while its rows still come in: until then its as-of grows, and is read again with each claim."""


@dataclass(slots=True)
class StageContext:
    """Connections, caches of immutable rows, and the cells. One per worker thread: never shared."""

    conn: Connection
    store: BlobStore
    registry: Registry
    appliers: Mapping[str, Applier] = field(default_factory=dict)
    """Adapters by name; empty in every process but apply, which alone reads target credentials."""
    lease_holds: Callable[[], bool] = field(default=lambda: True)
    """Whether the claim in hand is still ours by this process's own monotonic clock."""
    is_unrestricted: bool = True
    """No pause and no limit was in force when the batch was loaded: neighbouring stages may share a commit."""
    pace: Pace = field(default_factory=Pace)
    borrow: Callable[[], AbstractContextManager[Connection]] | None = None
    """Lends a connection for a moment, where many threads share this context; None: `conn` is this thread's own."""
    _floors: dict[UUID, Floor] = field(default_factory=dict)
    _contracts: dict[int, Contract] = field(default_factory=dict)
    _pins: dict[str, int] = field(default_factory=dict)
    _batches: dict[UUID, Batch] = field(default_factory=dict)
    _autonomy: dict[UUID, str] = field(default_factory=dict)

    def connection(self) -> AbstractContextManager[Connection]:
        """Return a connection for a transaction: this thread's own, or one that is lent."""
        return nullcontext(self.conn) if self.borrow is None else self.borrow()

    def floor(self, work: Work) -> Floor:
        """Return the floor version that the item's batch was taken in under."""
        return self._floors[self.batch(work).floor_id]

    def batch(self, work: Work) -> Batch:
        """Return the batch row of an item; loaded with the item."""
        return self._batches[work.claimed.batch_id]

    def contract(self, work: Work) -> Contract:
        """Return the contract version that the item is pinned to."""
        if work.contract_id is None:
            raise NotFound(f"item {work.item_id} is pinned to no contract: it has not been routed")
        if work.contract_id not in self._contracts:
            with self.connection() as conn:
                body: bytes | None = one_value(conn, "SELECT body FROM contracts WHERE id = %s", [work.contract_id])
            if body is None:
                raise NotFound(f"contract row {work.contract_id} is missing")
            self._contracts[work.contract_id] = parse_contract(body)
        return self._contracts[work.contract_id]

    def ceilings(self, work: Work) -> Ceilings:
        """Return what the contract that an item is pinned to says of attempts; None before it is pinned.

        None as well when the contract cannot be read: what ends an attempt must not fail itself.
        """
        if work.contract_id is None:
            return None
        try:
            return self.contract(work).ceilings
        except (ShopfloorError, psycopg.Error):
            return None

    def cell(self, work: Work) -> Cell:
        """Return the code for the contract that the item is pinned to."""
        return self.registry.runs(self.contract(work).sha256)

    def runs(self, work: Work) -> bool:
        """Return whether this worker has the code for the contract version that the item is pinned to."""
        return self.contract(work).sha256 in self.registry.by_sha256

    def pin(self, cell: str) -> int:
        """Return the row of the contract that new work of a cell is pinned to.

        The newest published version that this worker has the code for; of a cell that it does not have, the newest one that is
        published: its items then wait in the cell's lane for a worker that has the code.
        """
        if cell in self._pins:
            return self._pins[cell]
        row = self.conn.execute(_PIN, {"cell": cell, "ours": self.registry.hashes_of(cell)}).fetchone()
        if row is None:
            raise BadContract(f"no contract of cell {cell!r} is published", hint="shopfloor contract publish FOLDER")
        contract_id, is_ours = row
        if is_ours:  # a newer version of a cell that is not ours may be published at any time
            self._pins[cell] = contract_id
        return int(contract_id)

    def autonomy(self, work: Work) -> str:
        """Return what the pod may do on its own. Cached for this worker batch alone: people change it."""
        return self._autonomy[work.claimed.pod_id]

    def applier(self, name: str) -> Applier:
        """Return an adapter. Raises NotFound when this process has none of that name."""
        try:
            return self.appliers[name]
        except KeyError:
            raise NotFound(f"this process has no applier {name!r}; it has: {', '.join(sorted(self.appliers)) or 'none'}") from None

    def request(self, claimed: Sequence[Claimed], stage: Stage) -> "PendingReads":
        """Send for what a batch needs. Call inside the pipelined transaction of its claim: the answers come with its end."""
        wanted = list({item.batch_id for item in claimed} - {known for known, batch in self._batches.items() if batch.is_read})
        bodies = [] if stage in _WITHOUT_PAYLOAD else [(item.item_id, item.payload_sha256) for item in claimed]
        return PendingReads(
            self.conn.execute(_BATCHES, [wanted]) if wanted else None,
            self.conn.execute(_AUTONOMY, [list({item.pod_id for item in claimed})], prepare=True),
            self.conn.execute(NO_PAUSE_OR_LIMIT, prepare=True),
            send_body_query(self.conn, bodies) if bodies else None,
            bodies,
        )

    def receive(self, pending: "PendingReads") -> "Reading":
        """Return the answers, with the bodies that are on disk, and why one cannot be read: it holds back no other."""
        bodies = verified_bodies(pending.bodies.fetchall()) if pending.bodies else {}
        unread: dict[UUID, Unavailable] = {}
        for pair in pending.wanted:
            if pair in bodies:
                continue
            try:
                bodies[pair] = self.store.get(pair[1])
            except Unavailable as error:
                unread[pair[0]] = error
        return Reading(
            pending.batches.fetchall() if pending.batches else [], dict(pending.autonomy.fetchall()), is_true(pending.free), bodies, unread
        )

    def renew(self, works: Sequence[Work]) -> None:
        """Read again what people change: what the pods of these items may do on their own, and whether a pause or limit is in force."""
        with transaction(self.conn, {work.claimed.workspace_id for work in works}, pipelined=True) as conn:
            autonomy = conn.execute(_AUTONOMY, [list({work.claimed.pod_id for work in works})], prepare=True)
            unrestricted = conn.execute(NO_PAUSE_OR_LIMIT, prepare=True)
        self._autonomy, self.is_unrestricted = dict(autonomy.fetchall()), is_true(unrestricted)

    def take_in(self, claim: Claim, reading: "Reading") -> list[Work]:
        """Return freshly claimed items as work, each with its payload, floor and as-of.

        A payload that could not be read is left empty; `reading.unread` says why.
        """
        for batch_id, floor_id, as_of, is_read, floor in reading.batches:
            if floor_id not in self._floors:
                self._floors[floor_id] = parse_floor(floor.decode(), f"floor {floor_id}")
            self._batches[batch_id] = Batch(floor_id, as_text(as_of), is_read)
        self._autonomy, self.is_unrestricted = reading.autonomy, reading.is_unrestricted
        works = []
        for item in claim.items:
            body = None if claim.stage in _WITHOUT_PAYLOAD else reading.bodies.get((item.item_id, item.payload_sha256))
            payload = {} if body is None else json.loads(body)
            batch = self._batches[item.batch_id]
            works.append(Work(item, claim.id, claim.stage, claim.lane, item.fence, payload, batch.as_of, item.contract_id))
        return works


class PendingReads(NamedTuple):
    """What was sent for with a claim."""

    batches: Cursor[Any] | None
    autonomy: Cursor[Any]
    free: Cursor[Any]
    bodies: Cursor[Any] | None
    wanted: Sequence[tuple[UUID, bytes]]
    """Item and name of each payload."""


class Reading(NamedTuple):
    """What was read with a claim, as the rows say it."""

    batches: list[tuple[UUID, UUID, datetime, bool, bytes]]
    """Id, floor, as-of, whether all its rows are in, and the floor's text; of batches that this context does not know for good."""
    autonomy: dict[UUID, str]
    is_unrestricted: bool
    bodies: dict[tuple[UUID, bytes], bytes]
    unread: dict[UUID, Unavailable]


_WITHOUT_PAYLOAD = frozenset({Stage.APPLY, Stage.ARCHIVE})
"""Stages that work from what was approved or stored, never from the payload."""
_BATCHES = """
SELECT b.id, b.floor_id, coalesce(b.as_of, b.created_at), b.state <> 'reading', f.body
  FROM batches b
  JOIN floors f ON f.id = b.floor_id
 WHERE b.id = ANY(%s)
"""
_AUTONOMY = "SELECT id, autonomy FROM pods WHERE id = ANY(%s)"
_PIN = """
SELECT id, sha256 = ANY (%(ours)s::bytea[])
  FROM contracts
 WHERE name = %(cell)s
 ORDER BY array_position(%(ours)s::bytea[], sha256) NULLS LAST, id DESC
 LIMIT 1
"""
NO_PAUSE_OR_LIMIT = """
SELECT NOT EXISTS (SELECT FROM pauses WHERE lifted_at IS NULL AND (until IS NULL OR until > clock()))
   AND NOT EXISTS (SELECT FROM lanes WHERE max_active IS NOT NULL OR per_minute IS NOT NULL)
"""
"""True when no pause and no limit is in force in the workspaces in use; then work need not stop at each lane."""


def is_true(cursor: Cursor[Any]) -> bool:
    """Return the one truth value that a statement answered with."""
    row = cursor.fetchone()
    return bool(row and row[0])
