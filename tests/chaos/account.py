"""What must hold of a database after any run, read from the `inspect` views and the tables behind them."""

from queues.database import Connection

_CHECKS = {
    "a batch's rows add up": """
        SELECT b.id FROM inspect.batches b LEFT JOIN inspect.batch_rows r ON r.batch_id = b.id
         GROUP BY b.id, b.rows_total HAVING b.rows_total <> count(r.row_no) OR count(r.row_no) <> coalesce(max(r.row_no), 0)""",
    "an accepted row has its own order, and each order its row": """
        SELECT o.id::text FROM shopfloor.orders o LEFT JOIN inspect.batch_rows r ON r.order_id = o.id::text AND r.outcome = 'accepted'
         GROUP BY o.id HAVING count(r.row_no) <> 1""",
    "an item is queued or archived, never both or neither": """
        SELECT i.id::text FROM shopfloor.items i LEFT JOIN shopfloor.queue q ON q.item_id = i.id LEFT JOIN shopfloor.archived_items a ON a.item_id = i.id
         WHERE (q.item_id IS NULL) = (a.item_id IS NULL)""",
    "moves are numbered without gaps": """
        SELECT item_id FROM inspect.moves GROUP BY item_id HAVING min(no) <> 1 OR max(no) <> count(*)""",
    "each move starts where the last one ended": """
        SELECT item_id FROM (SELECT item_id, from_stage || '/' || from_state AS here,
               lag(to_stage || '/' || to_state, 1, 'none/none') OVER (PARTITION BY item_id ORDER BY no) AS there FROM inspect.moves) m
         WHERE here <> there""",
    "an item stands where its last move ended": """
        SELECT i.id FROM inspect.items i JOIN LATERAL (SELECT m.to_stage, m.to_state, m.fence FROM inspect.moves m WHERE m.item_id = i.id ORDER BY no DESC LIMIT 1) m ON true
         WHERE (i.stage, i.state, i.fence) <> (m.to_stage, m.to_state, m.fence)""",
    "every lease has a fence of its own, one higher than the last": """
        SELECT item_id FROM (SELECT item_id, fence, to_state, lag(fence, 1, 0) OVER (PARTITION BY item_id ORDER BY no) AS before FROM inspect.moves) m
         WHERE fence <> before + (to_state = 'leased')::int""",
    "moves of one item never go back in time": """
        SELECT item_id FROM (SELECT item_id, at, lag(at, 1, at) OVER (PARTITION BY item_id ORDER BY no) AS before FROM inspect.moves) m WHERE at < before""",
    "an action is applied at most once": """
        SELECT action_id FROM inspect.applies WHERE state = 'applied' GROUP BY action_id HAVING count(*) > 1""",
    "an applied proposal has one finished apply, and a finished apply its proposal": """
        SELECT p.id FROM inspect.proposals p LEFT JOIN inspect.applies a ON a.proposal_id = p.id AND a.state = 'applied'
         GROUP BY p.id, p.state HAVING (p.state = 'applied') <> (count(a.id) = 1)""",
    "an archived item leaves no apply open": """
        SELECT a.id FROM inspect.applies a JOIN inspect.items i ON i.id = (SELECT item_id FROM inspect.proposals p WHERE p.id = a.proposal_id)
         WHERE i.archived AND a.state IN ('intent', 'unknown')""",
    "an artifact's bytes are there and match its name": """
        SELECT a.id::text FROM shopfloor.artifacts a LEFT JOIN shopfloor.bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
         WHERE a.store = 'row' AND a.erased_at IS NULL AND (b.bytes IS NULL OR sha256(b.bytes) <> a.sha256 OR length(b.bytes) <> a.size_bytes)""",
    "an order is open exactly while an item of it is in progress": """
        SELECT o.id::text FROM shopfloor.orders o WHERE (o.state = 'open') <> EXISTS (
          SELECT FROM shopfloor.items i JOIN shopfloor.queue q ON q.item_id = i.id WHERE i.order_id = o.id)""",
    "a claim is closed when nothing is leased under it": """
        SELECT c.id::text FROM shopfloor.claims c WHERE c.closed_at IS NULL AND NOT EXISTS (SELECT FROM shopfloor.queue q WHERE q.claim_id = c.id)
           AND c.until < shopfloor.clock()""",
    "nothing is stranded": """
        SELECT item_id::text FROM shopfloor.queue WHERE NOT (state = 'dead' OR state = 'waiting' AND wait <> 'dependency')""",
    "no counter of crashes is above its ceiling": "SELECT item_id::text FROM shopfloor.queue WHERE crashes > 3",
    "no session idles in a transaction": """
        SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
           AND state_change < clock_timestamp() - interval '10 seconds'""",
    "no transaction is left prepared": "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
}


def violations(conn: Connection) -> list[str]:
    """Return a line for each thing that does not hold, with one example; empty when the books are in order."""
    found = []
    for claim, query in _CHECKS.items():
        broken = conn.execute(query).fetchall()
        if broken:
            found.append(f"{claim}: broken {len(broken)} times, first {broken[0][0]}")
    return found
