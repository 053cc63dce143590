"""The dossier: everything that an item left in the database, each part bounded, none of it changed."""

import json
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from queues.database import Connection
from queues.lookup import Found

MOST = 500
"""The most rows of each part; newest last."""

_ORDER = """
SELECT o.id, o.subject_key, o.revision, o.flow, o.goal, o.state, o.finding, o.submitter, o.created_at, o.closed_at,
       o.withdrawn_at,
       o.batch_id, i.row_no, p.name AS pod, i.payload_sha256
  FROM items i JOIN orders o ON o.id = i.order_id JOIN pods p ON p.id = o.pod_id WHERE i.id = %s
"""
_CONTRACT = """
SELECT k.name, k.version, k.sha256, k.published_at FROM contracts k
 WHERE k.id = (SELECT coalesce((SELECT contract_id FROM queue WHERE item_id = %(item)s),
                               (SELECT contract_id FROM archived_items WHERE item_id = %(item)s)))
"""
_HISTORY = """
SELECT * FROM (
  SELECT m.no, l.move, l.from_stage, l.from_state, l.to_stage, l.to_state, m.fence, m.actor, m.reason, m.at,
         extract(epoch FROM m.at - lag(m.at) OVER (ORDER BY m.no))::float8 AS gap_seconds
    FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE m.item_id = %s ORDER BY m.no DESC LIMIT {limit}) newest
 ORDER BY no
"""
_ATTEMPTS = f"""
SELECT stage, fence, outcome, cause, message, traceback, started_at, ended_at,
       extract(epoch FROM ended_at - started_at)::float8 AS seconds, input_sha256, output_sha256
  FROM attempts WHERE item_id = %s ORDER BY fence LIMIT {MOST}
"""
_ARTIFACTS = f"""
SELECT id, kind, sha256, size_bytes, store, fence, created_at, erased_at FROM artifacts
 WHERE item_id = %s ORDER BY created_at, id LIMIT {MOST}
"""
_INPUTS = f"""
SELECT artifact_id, subject, revision FROM artifact_inputs WHERE item_id = %s ORDER BY artifact_id, subject LIMIT {MOST}
"""
# Attempts that gave the same value left an artifact each: only that of the last of them is shown.
_EVIDENCE = f"""
SELECT e.artifact_id, e.no, e.claim, e.stance, e.confidence, e.source
  FROM evidence e
  JOIN (SELECT DISTINCT ON (a.sha256) a.item_id, a.id
          FROM artifacts a
         WHERE a.item_id = %s
         ORDER BY a.sha256, a.created_at DESC, a.id DESC) newest
    ON newest.item_id = e.item_id AND newest.id = e.artifact_id
 ORDER BY e.artifact_id, e.no
 LIMIT {MOST}
"""
_FINDINGS = f"""
SELECT stage, fence, code, message, place, at FROM findings WHERE item_id = %s ORDER BY fence, id LIMIT {MOST}
"""

_VERDICTS = f"""
SELECT id, fence, passed, artifact_sha256, body, at FROM verdicts
 WHERE item_id = %s ORDER BY at, id LIMIT {MOST}
"""

_PROPOSALS = f"""
SELECT p.id, p.action, p.target, p.adapter, p.sha256, p.epoch, p.finding, p.confidence, p.author,
       p.submitter, p.editors, p.state, p.created_at, p.expires_at,
       c.id AS clearance_id, c.tier, c.needed, c.state AS clearance, c.due_at
  FROM proposals p LEFT JOIN clearances c ON c.proposal_id = p.id WHERE p.item_id = %s ORDER BY p.epoch LIMIT {MOST}
"""
_DECISIONS = f"""
SELECT d.proposal_id, a.name AS actor, d.decision, d.reason, d.decided_at, d.proposal_sha256
  FROM proposals p JOIN decisions d ON d.proposal_id = p.id JOIN actors a ON a.id = d.actor_id
 WHERE p.item_id = %s ORDER BY d.decided_at, d.id LIMIT {MOST}
"""
_APPLIES = f"""
SELECT x.id, x.proposal_id, x.action_id, x.adapter, x.idempotency_class, x.state, x.intent_at, x.finished_at, x.receipt
  FROM proposals p JOIN applies x ON x.proposal_id = p.id WHERE p.item_id = %s ORDER BY x.intent_at, x.id LIMIT {MOST}
"""


def history(conn: Connection, item_id: UUID, *, limit: int = MOST) -> list[dict[str, Any]]:
    """Return the newest moves of an item, oldest of them first, each with the seconds since the one before.

    Call inside a transaction over the workspace.
    """
    return _rows(conn, _HISTORY.format(limit=int(limit)), item_id)


def read_dossier(conn: Connection, found: Found) -> dict[str, Any]:
    """Return an item's order, contract and all that it left behind; stored JSON is decoded, bytes stay with their hash.

    Call inside a transaction over the workspace.
    """
    item = found.item_id
    order = _rows(conn, _ORDER, item)[0]
    with conn.cursor(row_factory=dict_row) as cursor:
        contract = cursor.execute(_CONTRACT, {"item": item}).fetchone()
    evidence = _rows(conn, _EVIDENCE, item)
    for piece in evidence:
        piece["source"] = json.loads(piece["source"])
    verdicts = _rows(conn, _VERDICTS, item)
    for verdict in verdicts:
        verdict["checks"] = json.loads(verdict.pop("body")).get("checks", [])
    proposals = _rows(conn, _PROPOSALS, item)
    decisions = _rows(conn, _DECISIONS, item)
    applies = _rows(conn, _APPLIES, item)
    for sent in applies:
        sent["receipt"] = decoded(sent["receipt"])
    for proposal in proposals:
        proposal["decisions"] = [one for one in decisions if one["proposal_id"] == proposal["id"]]
        proposal["applies"] = [one for one in applies if one["proposal_id"] == proposal["id"]]
    return {
        "item_id": item,
        "order": order,
        "contract": contract,
        "history": history(conn, item),
        "attempts": _rows(conn, _ATTEMPTS, item),
        "artifacts": _rows(conn, _ARTIFACTS, item),
        "inputs": _rows(conn, _INPUTS, item),
        "evidence": evidence,
        "findings": _rows(conn, _FINDINGS, item),
        "verdicts": verdicts,
        "proposals": proposals,
    }


def _rows(conn: Connection, statement: str, item: UUID) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, [item]).fetchall()


def decoded(receipt: bytes | None) -> Any:
    """Return a receipt as a value; targets may answer with what is not JSON."""
    if receipt is None:
        return None
    try:
        return json.loads(receipt)
    except ValueError:
        return receipt.decode("utf-8", "replace")
