"""The conditions under which a ready item may start, written once.

Claiming (claims.py) and the explanation of waiting (the view `item_reasons`) are built from these texts, so
that what an operator reads is what the scheduler does. Each is an SQL expression over a queue row `q`.
"""

COVERS = """p.lifted_at IS NULL AND (p.until IS NULL OR p.until > shopfloor.clock())
     AND (p.workspace_id IS NULL OR p.workspace_id = q.workspace_id)
     AND p.scope = CASE p.kind WHEN 'all' THEN 'all' WHEN 'workspace' THEN q.workspace_id::text WHEN 'pod' THEN q.pod_id::text
       WHEN 'flow' THEN q.flow WHEN 'order' THEN q.order_id::text WHEN 'item' THEN q.item_id::text ELSE q.lane END"""
"""The pause `p` is active and covers the item."""

PAUSED = f"EXISTS (SELECT FROM shopfloor.pauses p WHERE {COVERS})"
"""An active pause covers the item: everything, its workspace, pod, flow, lane, cell, order or itself."""

DUE = "q.due_at <= shopfloor.clock()"
"""It is not in a backoff."""

ACTIVE = """(SELECT count(*) FROM shopfloor.queue b WHERE b.claim_id IS NOT NULL AND b.lane = l.name AND b.workspace_id = l.workspace_id)"""
"""How many items of the lane `l` are leased in its workspace."""

STARTED = """(SELECT coalesce(sum(m.started), 0) FROM shopfloor.lane_minutes m
      WHERE m.workspace_id = l.workspace_id AND m.lane = l.name AND m.minute = date_trunc('minute', shopfloor.clock()))"""
"""How many items of the lane `l` were claimed in this minute in its workspace; counted for lanes with such a limit alone."""

AT_LIMIT = f"""coalesce((SELECT l.max_active <= {ACTIVE}
   FROM shopfloor.lanes l WHERE l.workspace_id = q.workspace_id AND l.name = q.lane AND l.max_active IS NOT NULL), false)"""
"""The lane already has as many leased items in this workspace as it may."""

OVER_RATE = f"""coalesce((SELECT l.per_minute <= {STARTED}
   FROM shopfloor.lanes l WHERE l.workspace_id = q.workspace_id AND l.name = q.lane AND l.per_minute IS NOT NULL), false)"""
"""The lane has started as many items in this minute and workspace as it may."""

ALIVE = "w.stopped_at IS NULL AND w.beat_at > shopfloor.clock() - interval '30 seconds'"
"""The worker `w` was heard of lately."""

SERVES = f"""({ALIVE} AND q.lane = ANY (w.lanes)
   AND (NOT starts_with(q.lane, 'cell.') OR (SELECT k.sha256 FROM shopfloor.contracts k WHERE k.id = q.contract_id) = ANY (w.runs)))"""
"""The worker `w` lives and serves the lane; that of a cell, with the code for the contract that the item is pinned to."""

SERVED = f"EXISTS (SELECT FROM shopfloor.workers w WHERE {SERVES})"
"""A live worker serves it."""

RUNS = "(%(runs)b::bytea[] IS NULL OR q.contract_id IN (SELECT k.id FROM shopfloor.contracts k WHERE k.sha256 = ANY (%(runs)b::bytea[])))"
"""Who claims has the code for the contract that the item is pinned to; with no list of contracts, the lane needs none."""

READER = """EXISTS (SELECT FROM pg_locks l
   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND (l.classid::bigint << 32 | l.objid::bigint) = (('x' || right(replace(b.id::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807))"""
"""The intake of the batch `b` lives: its session holds the lock that `batch_book` takes for it."""

UNREAD = f"b.state = 'reading' AND b.read_at < shopfloor.clock() - interval '10 seconds' AND NOT {READER}"
"""Rows of the batch `b` are missing, and no intake reads them."""

IS_STREAM = "starts_with(b.source_identity, 'stream ')"
"""The source of the batch `b` was standard input: nobody can read it again."""

SILENT = "c.beat_at < shopfloor.clock() - (c.until - c.beat_at) / 3"
"""The claim `c` of a leased item has had no heartbeat for a third of its lease."""

UNCONFIRMED = "a.state IN ('intent', 'unknown')"
"""The apply `a` was sent and its effect is not known: its worker is on it, died on it, or asked a person."""

EFFECT_IN_FLIGHT = f"""EXISTS (SELECT FROM (SELECT id FROM shopfloor.proposals WHERE item_id = q.item_id OFFSET 0) p
    CROSS JOIN LATERAL (SELECT state FROM shopfloor.applies WHERE proposal_id = p.id OFFSET 0) a
    WHERE {UNCONFIRMED})"""
"""An action of the item may have been sent, and its effect is not known. OFFSET 0: by index, however small the tables were when it was planned."""
