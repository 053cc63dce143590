-- Why each queued item is not moving: the first that holds, in the precedence of contracts/lifecycle.py, by the
-- predicates that claiming uses. `since` is when it last moved; `next_at` when something is due, if known.
CREATE VIEW item_reasons WITH (security_invoker = true) AS
SELECT q.item_id,
       q.workspace_id,
       q.lane,
       q.stage,
       q.state,
       q.moved_at AS since,
       CASE
         WHEN q.state = 'dead' THEN NULL
         WHEN q.state = 'leased' AND ($silent) THEN 'silent'
         WHEN q.state = 'leased' THEN 'leased'
         WHEN q.state = 'waiting' THEN q.wait
         WHEN ($paused) THEN 'paused'
         WHEN NOT ($due) THEN 'backoff'
         WHEN ($over_rate) THEN 'rate'
         WHEN ($at_limit) OR NOT ($served) THEN 'slot'
         ELSE 'ready'
       END AS reason,
       CASE WHEN q.state = 'leased' THEN c.worker ELSE q.waiting_on END AS waiting_on,
       CASE
         WHEN q.state = 'leased' THEN c.until
         WHEN q.state = 'ready' AND NOT ($due) THEN q.due_at
       END AS next_at,
       c.beat_at
  FROM queue q
  LEFT JOIN LATERAL (
    SELECT cl.until,
           cl.beat_at,
           cl.opened_at,
           wk.name AS worker
      FROM claims cl
      JOIN workers wk ON wk.id = cl.worker_id
     WHERE cl.id = q.claim_id) c ON true;
GRANT SELECT ON item_reasons TO $everyone;
