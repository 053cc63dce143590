"""Invariants 1 and 17: every row is accounted for, every item is in exactly one place, every order as its items are."""

from contracts.lifecycle import Reason
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations

_BATCHES = """
WITH row_counts AS (
  SELECT batch_id, max(row_no) AS last_row, count(*) FILTER (WHERE outcome = 'accepted') AS accepted,
         count(*) FILTER (WHERE outcome = 'rejected') AS rejected,
         count(*) FILTER (WHERE outcome = 'duplicate') AS duplicate
    FROM inspect.batch_rows GROUP BY batch_id),
shelved AS (
  SELECT batch_id, count(*) AS items FROM inspect.items
   WHERE finding = 'context' AND stage = 'archive' AND state = 'done' GROUP BY batch_id),
counts AS (
  SELECT b.id, b.rows_total, b.accepted, b.rejected, b.duplicate, b.context, coalesce(a.last_row, 0) AS last_row,
         coalesce(a.accepted, 0) AS accepted_rows, coalesce(a.rejected, 0) AS rejected_rows,
         coalesce(a.duplicate, 0) AS duplicate_rows,
         coalesce(s.items, 0) AS shelved
    FROM inspect.batches b LEFT JOIN row_counts a ON a.batch_id = b.id LEFT JOIN shelved s ON s.batch_id = b.id
   WHERE b.state <> 'reading')
SELECT 1, 'batch ' || id || CASE
    WHEN rows_total <> accepted + rejected + duplicate
         OR (accepted, rejected, duplicate) <> (accepted_rows, rejected_rows, duplicate_rows)
      THEN ' counts ' || rows_total || ' rows = ' || accepted || ' accepted + ' || rejected || ' rejected + '
        || duplicate
           || ' duplicate, its rows are ' || accepted_rows || ' + ' || rejected_rows || ' + ' || duplicate_rows
    WHEN last_row <> rows_total THEN ' has ' || rows_total || ' rows, the last one is number ' || last_row
    WHEN context <> shelved
      THEN ' counts ' || context || ' context rows, ' || shelved || ' of its items are done as context' END
  FROM counts
 WHERE rows_total <> accepted + rejected + duplicate
    OR (accepted, rejected, duplicate) <> (accepted_rows, rejected_rows, duplicate_rows)
    OR last_row <> rows_total OR context <> shelved
"""

# Orders have no view of their own; they are compared by their native ids.
_ORDERS = """
WITH accepted AS (
  SELECT order_id, (array_agg(batch_id))[1] AS batch_id, count(*) AS rows
    FROM batch_rows
   WHERE outcome = 'accepted'
   GROUP BY order_id)
SELECT 1, CASE
    WHEN o.id IS NULL
      THEN 'batch ' || a.batch_id || ': an accepted row names order ' || coalesce(a.order_id::text, 'none')
        || ', which does not exist'
    WHEN a.order_id IS NULL THEN 'order ' || o.id || ': no accepted row of batch ' || o.batch_id || ' made it'
    WHEN a.rows > 1 THEN 'order ' || o.id || ': ' || a.rows || ' accepted rows name it'
    ELSE 'order ' || o.id || ': belongs to batch ' || o.batch_id || ', its row to batch ' || a.batch_id END
  FROM accepted a FULL JOIN orders o ON o.id = a.order_id
 WHERE o.id IS NULL OR a.order_id IS NULL OR a.rows > 1 OR a.batch_id <> o.batch_id
"""


def check_batches(context: CheckContext, counts: ViolationCounts) -> None:
    """Note finished batches whose counts and rows differ, and orders that are not made by exactly one accepted row."""
    report_violations(context, counts, _BATCHES)
    report_violations(context, counts, _ORDERS)


# The view shows an item once, wherever it is; being in two places at once shows in the tables alone.
_PLACES = """
SELECT 17, 'item ' || i.id || ' of batch ' || i.batch_id || CASE
    WHEN q.item_id IS NULL AND a.item_id IS NULL THEN ' is neither queued nor archived'
    WHEN q.item_id IS NOT NULL AND a.item_id IS NOT NULL THEN ' is both queued and archived'
    ELSE ' was taken in for flow ' || i.flow || ' and is in flow ' || coalesce(q.flow, a.flow) END
  FROM items i LEFT JOIN queue q ON q.item_id = i.id LEFT JOIN archived_items a ON a.item_id = i.id
 WHERE (q.item_id IS NULL) = (a.item_id IS NULL) OR coalesce(q.flow, a.flow) <> i.flow
UNION ALL
SELECT 17, 'item ' || p.item_id || ' is ' || p.place || ' and was never created'
  FROM (SELECT item_id, 'queued' AS place FROM queue UNION ALL SELECT item_id, 'archived' FROM archived_items) p
 WHERE NOT EXISTS (SELECT FROM items i WHERE i.id = p.item_id)
UNION ALL
SELECT 17, 'item ' || id || ' in ' || stage || '/' || state || ' has ' || count(*) || ' reasons: '
       || coalesce(string_agg(reason, ', '), 'none')
  FROM inspect.items WHERE NOT archived AND state <> 'dead'
 GROUP BY id, stage, state HAVING count(*) <> 1 OR NOT coalesce(bool_and(reason = ANY (%(reasons)s)), false)
"""


_ENDS = """
WITH ends AS (
  SELECT i.order_id, bool_or(q.item_id IS NOT NULL) AS queued, bool_or(q.state <> 'dead') AS live,
         array_agg(DISTINCT a.state) AS ended
    FROM items i
    LEFT JOIN queue q ON q.item_id = i.id
    LEFT JOIN archived_items a ON a.item_id = i.id
   GROUP BY i.order_id)
SELECT 17, 'order ' || o.id || ' is ' || o.state || CASE
    WHEN o.state = 'open' THEN ', and nothing of it is in progress'
    WHEN e.live THEN ', and an item of it is still in progress'
    ELSE ', its items ended as ' || coalesce(array_to_string(e.ended, ', '), 'nothing') END
  FROM orders o LEFT JOIN ends e ON e.order_id = o.id
 WHERE CASE WHEN o.state = 'open' THEN e.queued IS NOT TRUE
            ELSE e.live IS TRUE OR o.state <> 'superseded' AND (o.state = ANY (e.ended)) IS NOT TRUE END
"""


def check_conservation(context: CheckContext, counts: ViolationCounts) -> None:
    """Note items that are in no place, in two, or are there without exactly one known reason, and orders that end otherwise."""
    report_violations(context, counts, _PLACES, {"reasons": [reason.value for reason in Reason]})
    report_violations(context, counts, _ENDS)
