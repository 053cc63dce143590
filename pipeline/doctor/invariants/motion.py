"""Invariants 12 and 16: work moves or says why not, and recovery finds nothing to do."""

from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations

STILL_SECONDS = 60
"""How long a due item may stand, and a dead claim hold it, before it counts as stranded."""
LATE_SECONDS = 10
"""How long after its time the sweeper may come: it sweeps every second."""
_FAR_SECONDS = 86_400
"""A backoff beyond this is no backoff; the longest that a target may ask for is far below it."""

_STRANDED = """
WITH moving AS (
  SELECT lane
    FROM lane_minutes
   WHERE minute >= date_trunc('minute', clock() - make_interval(secs => %(still)s)) AND finished + failed > 0
  UNION
  -- A worker that is busy with a long batch comes to its other items afterwards.
  SELECT unnest(w.lanes)
    FROM claims b
    JOIN workers w ON w.id = b.worker_id
   WHERE b.closed_at IS NULL AND b.until > clock()),
newest AS (SELECT DISTINCT ON (item_id) item_id, id FROM proposals ORDER BY item_id, epoch DESC)
SELECT 12, 'item ' || q.item_id || ' in ' || q.stage || '/' || q.state || CASE
    WHEN q.state = 'leased' AND c.id IS NULL THEN ': its claim ' || q.claim_id || ' is gone'
    WHEN q.state = 'leased' AND c.closed_at IS NOT NULL THEN ': its claim ' || q.claim_id || ' is closed'
    WHEN q.state = 'leased' THEN ': its lease ran out at ' || c.until || ' and nobody took it back'
    WHEN q.state = 'waiting' AND q.waiting_on = '' THEN ': waits for ' || q.wait || ' on nobody'
    WHEN q.state = 'waiting' AND q.wait = 'dependency' THEN ': waits on ' || q.waiting_on || ', which does not exist'
    WHEN q.state = 'waiting'
      THEN ': waits for ' || q.wait || ', and no clearance of its proposal is open or newly decided'
    WHEN q.due_at > clock() THEN ': is due at ' || q.due_at || ', more than a day ahead'
    ELSE ': due since ' || greatest(q.due_at, q.moved_at)
      || ', its lane ' || q.lane || ' is served, free and does not move' END
  FROM queue q JOIN item_reasons s ON s.item_id = q.item_id
  LEFT JOIN claims c ON c.id = q.claim_id
  LEFT JOIN newest p ON p.item_id = q.item_id AND q.wait IN ('approval', 'second_approval')
  LEFT JOIN clearances l ON l.proposal_id = p.id
 WHERE q.state = 'leased'
   AND (c.id IS NULL OR c.closed_at IS NOT NULL OR c.until < clock() - make_interval(secs => %(still)s))
    OR q.state = 'waiting' AND (q.waiting_on = ''
      OR q.wait = 'dependency' AND starts_with(q.waiting_on, 'batch ')
         AND NOT EXISTS (SELECT FROM batches b WHERE 'batch ' || b.id = q.waiting_on)
      -- The sweeper follows a decision for a day; an older one would be followed by nobody.
      OR q.wait IN ('approval', 'second_approval')
         AND NOT coalesce(l.state = 'open' OR l.state <> 'void' AND l.closed_at > clock() - interval '1 day', false))
    OR q.state = 'ready' AND q.due_at > clock() + make_interval(secs => %(far)s)
    OR s.reason = 'ready' AND greatest(q.due_at, q.moved_at) < clock() - make_interval(secs => %(still)s)
       AND q.lane NOT IN (SELECT lane FROM moving)
"""


MOST_RETURNS = 250
"""How often an item may be claimed and given back with no other move in between. A claim of slow items gives back those that it does
not come to, at most as often as there are items in a claim, 200; each start of a worker and each pause add one."""

_RETURNED = """
WITH busy AS (
  SELECT item_id, lane, move_no
    FROM queue
   WHERE move_no > 2 * %(most)s),
progress AS (
  SELECT m.item_id,
         max(m.no) AS no
    FROM moves m
    JOIN legal_moves l ON l.number = m.legal
   WHERE m.item_id IN (SELECT item_id FROM busy) AND l.move NOT IN ('claim', 'give_back')
   GROUP BY m.item_id)
SELECT 12,
       'item ' || b.item_id || ' in lane ' || b.lane || ': ' || b.move_no - coalesce(p.no, 0)
       || ' moves since its last progress, all of them claim and give_back'
  FROM busy b
  LEFT JOIN progress p ON p.item_id = b.item_id
 WHERE b.move_no - coalesce(p.no, 0) > 2 * %(most)s
"""


def check_stranded(context: CheckContext, counts: ViolationCounts) -> None:
    """Note items that nothing will ever move: no lease, nobody to wait for, in a lane that does not move, or going in circles."""
    report_violations(context, counts, _STRANDED, {"still": STILL_SECONDS, "far": _FAR_SECONDS})
    report_violations(context, counts, _RETURNED, {"most": MOST_RETURNS})


# What the sweeper's own statements would find, with the time that it may take to come round.
_OVERDUE = """
SELECT 16, 'claim ' || c.id || ' ran out at ' || c.until || ' and is still open, with '
       || (SELECT count(*) FROM queue q WHERE q.claim_id = c.id) || ' items'
  FROM claims c WHERE c.closed_at IS NULL AND c.until < clock() - make_interval(secs => %(late)s)
UNION ALL
SELECT 16, 'item ' || q.item_id || ' still waits on batch ' || b.id || ', which is ' || b.state
  FROM queue q JOIN batches b ON q.waiting_on = 'batch ' || b.id
 WHERE q.wait = 'dependency'
   AND b.state <> 'reading'
   AND coalesce(b.finished_at, b.created_at) < clock() - make_interval(secs => %(late)s)
UNION ALL
SELECT 16, 'item ' || q.item_id || ' still waits for approval, its clearance is ' || c.state
  FROM clearances c JOIN proposals p ON p.id = c.proposal_id AND p.state IN ('approved', 'rejected', 'returned')
  JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE c.state IN ('cleared', 'refused', 'returned') AND c.closed_at > clock() - interval '1 day'
   AND c.closed_at < clock() - make_interval(secs => %(late)s)
   AND NOT EXISTS (SELECT FROM proposals later WHERE later.item_id = p.item_id AND later.epoch > p.epoch)
UNION ALL
SELECT 16, 'proposal ' || p.id || ' of item ' || p.item_id || ' expired at ' || p.expires_at || ' and still waits'
  FROM proposals p JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE p.is_open AND p.expires_at <= clock() - make_interval(secs => %(late)s)
"""


def check_overdue(context: CheckContext, counts: ViolationCounts) -> None:
    """Note what a round of the sweeper would change now, although it should have been here."""
    report_violations(context, counts, _OVERDUE, {"late": LATE_SECONDS})
