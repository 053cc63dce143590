"""Admission: how rows become work. Orders, items, their first move and their place in the queue, in one statement."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from queues.database import Connection


class Entry(NamedTuple):
    """One row of a batch and what was decided of it; `legal` is the number of its first move."""

    row_no: int
    line: int
    byte_offset: int
    outcome: str
    code: str
    field: str
    message: str
    subject_key: str
    revision: str
    order_id: UUID | None
    item_id: UUID | None
    sha256: bytes
    body: bytes | None
    goal: str
    legal: int


_TYPES = ("int8", "int8", "int8", "text", "text", "text", "text", "text", "text", "uuid", "uuid", "bytea", "bytea", "text", "int2")
_COLUMNS = ", ".join(Entry._fields)
_ARRAYS = ", ".join(f"%b::{name}[]" for name in _TYPES)

# One statement, and arrays instead of a temporary table: that would be made in the catalogue for every intake, and
# the first one of each connection makes a schema, for which every session throws away all its plans.
# Foreign keys and guards look when all of it is written.
_ADMIT = f"""
WITH arriving AS MATERIALIZED (
  SELECT a.*, l.to_stage, l.to_state FROM unnest({_ARRAYS}) AS a ({_COLUMNS}) JOIN legal_moves l ON l.number = a.legal),
batch AS (SELECT %s::uuid AS workspace, %s::uuid AS id, %s::uuid AS pod, %s::text AS flow, %s::text AS submitter),
new_orders AS (
  INSERT INTO orders (id, workspace_id, batch_id, pod_id, flow, goal, subject_key, revision, payload_sha256, submitter,
                      state, closed_at, finding)
  SELECT a.order_id, b.workspace, b.id, b.pod, b.flow, a.goal, a.subject_key, a.revision, a.sha256, b.submitter,
         CASE a.to_state WHEN 'done' THEN 'done' ELSE 'open' END, CASE a.to_state WHEN 'done' THEN clock() END,
         CASE a.to_state WHEN 'done' THEN 'context' ELSE '' END
    FROM arriving a, batch b WHERE a.outcome = 'accepted'
   -- Two intakes of the same subjects then wait for each other in one direction.
   ORDER BY a.subject_key COLLATE "C"),
new_items AS (
  INSERT INTO items (id, workspace_id, order_id, batch_id, row_no, flow, payload_sha256)
  SELECT a.item_id, b.workspace, a.order_id, b.id, a.row_no, b.flow, a.sha256
    FROM arriving a, batch b
   WHERE a.outcome = 'accepted'),
new_bodies AS (
  INSERT INTO bodies (item_id, sha256, workspace_id, bytes)
  SELECT a.item_id, a.sha256, b.workspace, a.body
    FROM arriving a, batch b
   WHERE a.outcome = 'accepted' AND a.body IS NOT NULL),
first_moves AS (
  INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor, reason)
  SELECT a.item_id, b.workspace, clock(), 1, 0, a.legal, b.submitter, 'batch row ' || a.row_no
    FROM arriving a, batch b
   WHERE a.outcome = 'accepted'),
queued AS (
  INSERT INTO queue (item_id, workspace_id, order_id, pod_id, moved_at, due_at, move_no, stage, state, lane, ready_lane,
                     flow, wait, waiting_on)
  SELECT a.item_id, b.workspace, a.order_id, b.pod, clock(), clock(), 1, a.to_stage, a.to_state, a.to_stage,
         CASE a.to_state WHEN 'ready' THEN a.to_stage END, b.flow, CASE a.to_state WHEN 'waiting' THEN 'dependency' END,
         CASE a.to_state WHEN 'waiting' THEN 'batch ' || b.id::text ELSE '' END
    FROM arriving a, batch b WHERE a.outcome = 'accepted' AND a.to_state IN ('ready', 'waiting')),
shelved AS (
  INSERT INTO archived_items (item_id, workspace_id, order_id, pod_id, fence, move_no, stage, state, lane, flow,
                              finding, archived_at)
  SELECT a.item_id, b.workspace, a.order_id, b.pod, 0, 1, a.to_stage, a.to_state, a.to_stage, b.flow, 'context', clock()
    FROM arriving a, batch b WHERE a.outcome = 'accepted' AND a.to_state = 'done')
INSERT INTO batch_rows (batch_id, row_no, workspace_id, outcome, order_id, line, byte_offset, subject_key, code, field,
                        message)
SELECT b.id, a.row_no, b.workspace, a.outcome, a.order_id, a.line, a.byte_offset, a.subject_key, a.code, a.field,
       a.message
  FROM arriving a, batch b
"""


def admit(conn: Connection, entries: Iterable[Entry], *, workspace: UUID, batch: UUID, pod: UUID, flow: str, submitter: str) -> None:
    """Account for every entry, and make an order with its item, first move and place in the queue of each accepted one.

    Raises psycopg's UniqueViolation when another intake took a subject meanwhile: read again, and decide again.
    """
    columns = [list(column) for column in zip(*entries, strict=True)]
    conn.execute(_ADMIT, [*columns, workspace, batch, pod, flow, submitter], prepare=True)
