-- The inspect views: a stable contract for auditors. Columns may be added, never renamed or removed.
-- Ids are text, hashes lower-case hex, money integer micro-units. Parts that are not built yet have their
-- view, with no rows. A row is never hidden for what it points at: a workspace that does not exist has no name.

CREATE SCHEMA inspect AUTHORIZATION $owner;
GRANT USAGE ON SCHEMA inspect TO $everyone;

-- An id as text is found by an index on that text. Of an item there is one such index: what belongs to items takes the
-- id from `items`, so that a condition on it becomes one look-up there and a look-up by uuid here, and the tables that
-- every move is written to need no second index.
CREATE INDEX items_text ON items ((id::text));
CREATE INDEX batches_text ON batches ((id::text));
CREATE INDEX proposals_text ON proposals ((id::text));
CREATE INDEX clearances_text ON clearances ((id::text));
CREATE INDEX decisions_text ON decisions ((id::text));

SET LOCAL search_path = inspect, $schema;

CREATE VIEW batches WITH (security_invoker = true) AS
SELECT b.id::text AS id,
       w.name AS workspace,
       b.flow,
       encode(b.source_sha256, 'hex') AS source_sha256,
       b.rows_read AS rows_total,
       b.state, b.accepted, b.rejected, b.duplicate, b.context, b.finished_at
  FROM $schema.batches b
  LEFT JOIN $schema.workspaces w ON w.id = b.workspace_id;

CREATE VIEW batch_rows WITH (security_invoker = true) AS
SELECT b.id::text AS batch_id,
       w.name AS workspace,
       r.row_no,
       r.outcome,
       r.order_id::text AS order_id,
       r.code, r.line, r.byte_offset, r.field
  FROM $schema.batch_rows r
  LEFT JOIN $schema.batches b ON b.id = r.batch_id
  LEFT JOIN $schema.workspaces w ON w.id = r.workspace_id;

CREATE VIEW items WITH (security_invoker = true) AS
SELECT i.id::text AS id,
       w.name AS workspace,
       i.order_id::text AS order_id,
       i.batch_id::text AS batch_id,
       i.row_no,
       i.flow,
       coalesce(k.name, '') AS cell,
       coalesce(k.name, '') AS contract,
       coalesce(k.version, '') AS contract_version,
       coalesce(q.stage, a.stage) AS stage,
       coalesce(q.state, a.state) AS state,
       s.reason,
       s.waiting_on,
       coalesce(q.fence, a.fence) AS fence,
       q.due_at,
       coalesce(q.rounds, a.rounds)::int AS rework_rounds,
       i.depth::int AS depth,
       a.item_id IS NOT NULL AS archived,
       i.created_at,
       coalesce(a.finding, '') AS finding
  FROM $schema.items i
  LEFT JOIN $schema.workspaces w ON w.id = i.workspace_id
  LEFT JOIN $schema.queue q ON q.item_id = i.id
  LEFT JOIN $schema.item_reasons s ON s.item_id = i.id
  LEFT JOIN $schema.archived_items a ON a.item_id = i.id
  LEFT JOIN $schema.contracts k ON k.id = coalesce(q.contract_id, a.contract_id);

CREATE VIEW moves WITH (security_invoker = true) AS
SELECT i.id::text AS item_id,
       w.name AS workspace,
       m.no,
       l.move, l.from_stage, l.from_state, l.to_stage, l.to_state,
       m.fence, m.actor, m.reason, m.at
  FROM $schema.moves m
  JOIN $schema.legal_moves l ON l.number = m.legal
  LEFT JOIN $schema.items i ON i.id = m.item_id
  LEFT JOIN $schema.workspaces w ON w.id = m.workspace_id;

CREATE VIEW legal_moves WITH (security_invoker = true) AS
SELECT move, from_stage, from_state, to_stage, to_state FROM $schema.legal_moves;

-- A lease is opened by the move that issues its fence and closed by the next move of the item.
CREATE VIEW leases WITH (security_invoker = true) AS
SELECT i.id::text AS item_id,
       w.name AS workspace,
       m.fence,
       coalesce(wk.name, m.actor) AS worker,
       m.at AS opened_at,
       c.until,
       n.at AS closed_at
  FROM $schema.moves m
  JOIN $schema.legal_moves l ON l.number = m.legal AND l.to_state = 'leased'
  LEFT JOIN $schema.items i ON i.id = m.item_id
  LEFT JOIN $schema.workspaces w ON w.id = m.workspace_id
  LEFT JOIN $schema.claims c ON c.id = m.claim_id
  LEFT JOIN $schema.workers wk ON wk.id = c.worker_id
  LEFT JOIN $schema.moves n ON n.item_id = m.item_id AND n.no = m.no + 1;

-- An attempt is a lease and how it ended. `no` counts the leases of an item in a stage. An attempt that failed has the
-- cause it was counted under: as its execution or the note of its move says, or by where the item went from it.
-- A contract's own ceilings hold in its workcell, and for contract, qa and drift wherever they are found.
CREATE VIEW attempts WITH (security_invoker = true) AS
SELECT e.item_id::text || '/' || e.fence AS id,
       e.item_id::text AS item_id,
       e.workspace, e.stage, e.no, e.fence, e.started_at, e.ended_at, e.outcome, e.cause,
       CASE WHEN e.cause IS NOT NULL THEN coalesce(
         CASE WHEN e.stage = 'workcell' OR e.cause IN ('contract', 'qa', 'drift') THEN (
           SELECT (convert_from(k.body, 'UTF8')::json #>> ARRAY['limits', 'attempts', e.cause])::int
             FROM $schema.contracts k
            WHERE k.id = coalesce(
              (SELECT q.contract_id FROM $schema.queue q WHERE q.item_id = e.item_id),
              (SELECT f.contract_id FROM $schema.archived_items f WHERE f.item_id = e.item_id))) END,
         CASE e.cause $ceilings END) END AS ceiling
  FROM (
    SELECT i.id AS item_id,
           w.name AS workspace,
           l.to_stage AS stage,
           m.fence,
           m.at AS started_at,
           n.at AS ended_at,
           coalesce(t.outcome, nl.move) AS outcome,
           row_number() OVER (PARTITION BY i.id, m.item_id, l.to_stage ORDER BY m.fence)::int AS no,
           CASE
             WHEN t.cause IS NOT NULL THEN t.cause
             WHEN nl.move = 'expire' OR nl.move = 'bury' AND starts_with(n.reason, 'the lease ran out') THEN 'crash'
             WHEN nl.move IN ('retry', 'bury') AND split_part(n.reason, ':', 1) IN ($causes)
               THEN split_part(n.reason, ':', 1)
             WHEN nl.move = 'drift' THEN 'drift'
             WHEN nl.from_stage = 'artifact' AND nl.to_stage = 'rework' THEN 'contract'
             WHEN nl.from_stage = 'qa' AND nl.from_state = 'leased' AND nl.to_stage = 'rework' THEN 'qa'
           END AS cause
      FROM $schema.moves m
      JOIN $schema.legal_moves l ON l.number = m.legal AND l.to_state = 'leased'
      LEFT JOIN $schema.items i ON i.id = m.item_id
      LEFT JOIN $schema.workspaces w ON w.id = m.workspace_id
      LEFT JOIN $schema.moves n ON n.item_id = m.item_id AND n.no = m.no + 1
      LEFT JOIN $schema.legal_moves nl ON nl.number = n.legal
      LEFT JOIN $schema.attempts t ON t.item_id = m.item_id AND t.fence = m.fence) e;

CREATE VIEW contracts WITH (security_invoker = true) AS
SELECT name,
       version,
       encode(sha256, 'hex') AS sha256,
       convert_from(body, 'UTF8') AS body,
       published_at
  FROM $schema.contracts;

CREATE VIEW artifacts WITH (security_invoker = true) AS
SELECT a.id::text AS id,
       i.id::text AS item_id,
       w.name AS workspace,
       a.item_id::text || '/' || a.fence AS attempt_id,
       a.kind,
       coalesce(k.version, '') AS contract_version,
       encode(a.sha256, 'hex') AS sha256,
       a.size_bytes,
       CASE a.store WHEN 'row' THEN 'row:' ELSE 'blob:' END || encode(a.sha256, 'hex') AS uri,
       a.erased_at,
       a.created_at
  FROM $schema.artifacts a
  LEFT JOIN $schema.items i ON i.id = a.item_id
  LEFT JOIN $schema.workspaces w ON w.id = a.workspace_id
  LEFT JOIN $schema.contracts k ON k.id = a.contract_id;

CREATE VIEW proposals WITH (security_invoker = true) AS
SELECT p.id::text AS id,
       i.id::text AS item_id,
       w.name AS workspace,
       p.action,
       p.target,
       encode(p.sha256, 'hex') AS proposal_sha256,
       encode(p.precondition_sha256, 'hex') AS precondition_sha256,
       p.epoch, p.state, p.author, p.submitter, p.editors, p.created_at, p.expires_at
  FROM $schema.proposals p
  LEFT JOIN $schema.items i ON i.id = p.item_id
  LEFT JOIN $schema.workspaces w ON w.id = p.workspace_id;

CREATE VIEW clearances WITH (security_invoker = true) AS
SELECT c.id::text AS id,
       p.id::text AS proposal_id,
       w.name AS workspace,
       c.tier,
       c.needed::int AS needed,
       c.state,
       c.opened_at,
       c.due_at
  FROM $schema.clearances c
  LEFT JOIN $schema.proposals p ON p.id = c.proposal_id
  LEFT JOIN $schema.workspaces w ON w.id = c.workspace_id;

CREATE VIEW decisions WITH (security_invoker = true) AS
SELECT d.id::text AS id,
       c.id::text AS clearance_id,
       p.id::text AS proposal_id,
       w.name AS workspace,
       encode(d.proposal_sha256, 'hex') AS proposal_sha256,
       a.name AS actor,
       d.decision,
       d.decided_at,
       NULL::timestamptz AS revoked_at,
       d.expires_at
  FROM $schema.decisions d
  JOIN $schema.actors a ON a.id = d.actor_id
  LEFT JOIN $schema.clearances c ON c.id = d.clearance_id
  LEFT JOIN $schema.proposals p ON p.id = d.proposal_id
  LEFT JOIN $schema.workspaces w ON w.id = d.workspace_id;

CREATE VIEW applies WITH (security_invoker = true) AS
SELECT a.id::text AS id,
       p.id::text AS proposal_id,
       w.name AS workspace,
       encode(a.action_id, 'hex') AS action_id,
       encode(a.proposal_sha256, 'hex') AS proposal_sha256,
       a.adapter,
       a.idempotency_class,
       encode(a.action_id, 'hex') AS idempotency_key,
       a.state,
       a.intent_at,
       a.finished_at
  FROM $schema.applies a
  LEFT JOIN $schema.proposals p ON p.id = a.proposal_id
  LEFT JOIN $schema.workspaces w ON w.id = a.workspace_id;

CREATE VIEW calls AS
SELECT ''::text AS id, ''::text AS attempt_id, ''::text AS workspace, ''::text AS kind, ''::text AS provider,
       ''::text AS model, ''::text AS request_id,
       0::bigint AS input_tokens, 0::bigint AS output_tokens, 0::bigint AS cost_micros, ''::text AS state WHERE false;
CREATE VIEW ledger AS
SELECT 0::bigint AS seq,
       ''::text AS workspace,
       ''::text AS scope,
       ''::text AS call_id,
       ''::text AS kind,
       0::bigint AS delta_micros,
       now() AS at
 WHERE false;
CREATE VIEW budgets AS
SELECT ''::text AS workspace,
       ''::text AS scope,
       ''::text AS period,
       0::bigint AS limit_micros,
       0::bigint AS spent_micros,
       0::bigint AS reserved_micros
 WHERE false;
CREATE VIEW reservations AS
SELECT ''::text AS id,
       ''::text AS workspace,
       ''::text AS scope,
       ''::text AS call_id,
       0::bigint AS micros,
       now() AS opened_at,
       now() AS expires_at,
       now() AS closed_at
 WHERE false;
CREATE VIEW audit_checkpoints AS
SELECT 0::bigint AS seq,
       ''::text AS hash,
       now() AS signed_at,
       ''::text AS signature
 WHERE false;

-- prev_hash and hash stay null until rows are sealed into a chain.
CREATE VIEW audit WITH (security_invoker = true) AS
SELECT a.seq,
       a.at,
       coalesce(w.name, '') AS workspace,
       a.actor, a.action, a.object,
       encode(a.payload_sha256, 'hex') AS payload_sha256,
       NULL::text AS prev_hash,
       NULL::text AS hash
  FROM $schema.audit a
  LEFT JOIN $schema.workspaces w ON w.id = a.workspace_id;

GRANT SELECT ON ALL TABLES IN SCHEMA inspect TO $everyone;
REVOKE SELECT ON inspect.audit FROM $everyone;
GRANT SELECT ON inspect.audit TO ${prefix}operate, ${prefix}audit;
SET LOCAL search_path = $schema;
