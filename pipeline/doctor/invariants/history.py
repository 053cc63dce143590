"""Invariants 2, 3, 4 and 14: what the moves of an item say about it."""

from contracts.attempts import CEILINGS
from contracts.lifecycle import MAX_HOPS, TERMINAL
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations
from pipeline.doctor.invariants.pins import ROUND_CAUSES

_REVIVALS = ["requeue", "replay"]
"""The moves that may leave a terminal state, by a named actor."""
_AFRESH = ["requeue", "replay", "send_back", "return", "lapse"]
"""The moves by which a person, or the end of a proposal, gives an item further rounds."""

# One pass: moves sorted by item and number once, everything about an item is aggregated from that order.
# COLLATE "C" compares the text of ids byte by byte; a language's rules would take three times as long.
_MOVES = """
WITH steps AS (
  SELECT item_id, no, move, from_stage, from_state, to_stage, to_state, fence, actor, to_state = 'leased' AS leases,
         lag(no, 1, 0) OVER w AS no_before, lag(to_stage, 1, 'none') OVER w AS stage_before,
         lag(to_state, 1, 'none') OVER w AS state_before,
         lag(fence, 1, 0) OVER w AS fence_before, lead(no) OVER w IS NULL AS is_last
    FROM (SELECT item_id COLLATE "C" AS item_id, no, move, from_stage, from_state, to_stage, to_state, fence, actor
            FROM inspect.moves) m
  WINDOW w AS (PARTITION BY item_id ORDER BY no)),
lives AS (
  SELECT item_id, max(no) FILTER (WHERE is_last) AS last_no, max(to_stage) FILTER (WHERE is_last) AS stage,
         max(to_state) FILTER (WHERE is_last) AS state, max(fence) FILTER (WHERE is_last) AS fence,
         min(no) FILTER (WHERE no <> no_before + 1) AS gap_at,
         min(no) FILTER (WHERE no = no_before + 1
                         AND (from_stage, from_state) <> (stage_before, state_before)) AS jump_at,
         min(no) FILTER (WHERE state_before = ANY (%(terminal)s)
                         AND (move <> ALL (%(revivals)s) OR actor = '')) AS risen_at,
         min(no) FILTER (WHERE fence < fence_before + leases::int) AS fence_back_at,
         min(no) FILTER (WHERE fence > fence_before + leases::int) AS fence_ahead_at,
         count(*) FILTER (WHERE from_stage = 'rework' AND to_stage = 'workcell') AS rounds,
         count(*) FILTER (WHERE move = ANY (%(afresh)s)) AS afresh
    FROM steps GROUP BY item_id)
SELECT broken.number, 'item ' || i.id || broken.text
  FROM inspect.items i LEFT JOIN lives l ON i.id = l.item_id
  LEFT JOIN unnest(%(names)s::text[], %(versions)s::text[], %(rounds)s::int[]) AS k (name, version, rounds)
         ON (k.name, k.version) = (i.contract, i.contract_version)
  CROSS JOIN LATERAL (VALUES
    (2, CASE WHEN l.item_id IS NULL THEN ' has no moves'
             WHEN (i.stage, i.state) <> (l.stage, l.state)
               THEN ' is in ' || i.stage || '/' || i.state || ', its last move (' || l.last_no || ') ended in '
                    || l.stage || '/' || l.state END),
    (2, CASE WHEN l.gap_at IS NOT NULL THEN ': a move before number ' || l.gap_at || ' is missing or not legal' END),
    (2,
     CASE WHEN l.jump_at IS NOT NULL THEN ': move ' || l.jump_at || ' does not start where the one before ended' END),
    (2,
     CASE WHEN l.risen_at IS NOT NULL THEN ': move ' || l.risen_at
       || ' leaves a terminal state without being a revival by a named actor' END),
    (3, CASE WHEN l.fence_back_at IS NOT NULL THEN ': the fence of move ' || l.fence_back_at || ' does not grow'
             WHEN i.fence <> l.fence THEN ' carries fence ' || i.fence || ', its last move fence ' || l.fence END),
    (4, CASE WHEN l.fence_back_at IS NULL AND l.fence_ahead_at IS NOT NULL
               THEN ': an attempt before the fence of move ' || l.fence_ahead_at || ' is missing' END),
    (14, CASE WHEN i.rework_rounds < l.rounds OR i.rework_rounds > l.rounds + l.afresh
                THEN ' counts ' || i.rework_rounds || ' rework rounds, its history has ' || l.rounds
              WHEN l.rounds > coalesce(k.rounds, %(default_rounds)s) * (1 + l.afresh)
                THEN ' went through ' || l.rounds || ' rework rounds: at most '
                     || coalesce(k.rounds, %(default_rounds)s) * (1 + l.afresh) || ' were allowed' END),
    (14,
     CASE WHEN i.depth > %(max_depth)s THEN ' is ' || i.depth || ' hops from its first order: at most '
       || %(max_depth)s END)
  ) AS broken (number, text)
 WHERE broken.text IS NOT NULL
   -- Worked out only for the few that something is wrong with.
   AND (l.item_id IS NULL OR (i.stage, i.state, i.fence) <> (l.stage, l.state, l.fence)
        OR coalesce(l.gap_at, l.jump_at, l.risen_at, l.fence_back_at, l.fence_ahead_at) IS NOT NULL
        OR i.rework_rounds > 0 OR l.rounds > 0 OR i.depth > %(max_depth)s)
"""


def check_moves(context: CheckContext, counts: ViolationCounts) -> None:
    """Note histories with gaps, jumps, unnamed revivals, fences that do not grow by one, and rounds beyond their limit."""
    values = {
        "terminal": [state.value for state in TERMINAL],
        "revivals": _REVIVALS,
        "afresh": _AFRESH,
        "default_rounds": sum(CEILINGS[cause] for cause in ROUND_CAUSES),
        "max_depth": MAX_HOPS,
    }
    report_violations(context, counts, _MOVES, values | context.pins.limits())


# What a stage recorded was written with the move that ended its lease: one transaction, hence one clock() value.
# Later than that is a result of a worker that had lost the lease.
_RESULTS = """
WITH results AS (
  SELECT id, 'artifact' AS kind, item_id, split_part(attempt_id, '/', 2)::int AS fence, created_at AS at
    FROM inspect.artifacts
  UNION ALL
  SELECT id::text, 'verdict', item_id::text, fence, at FROM verdicts)
SELECT 3, r.kind || ' ' || r.id || ' of item ' || r.item_id || CASE
    WHEN l.item_id IS NULL THEN ': no lease had its fence ' || r.fence
    ELSE ': was recorded after its lease (fence ' || r.fence || ') had ended' END
  FROM results r LEFT JOIN inspect.leases l ON l.item_id = r.item_id AND l.fence = r.fence
 WHERE l.item_id IS NULL OR r.at > l.closed_at
UNION ALL
SELECT 3, 'item ' || item_id || ' has ' || count(*) || ' open leases'
  FROM inspect.leases WHERE closed_at IS NULL GROUP BY item_id HAVING count(*) > 1
"""


def check_results(context: CheckContext, counts: ViolationCounts) -> None:
    """Note results that were accepted from a worker without the lease, and items with two open leases."""
    report_violations(context, counts, _RESULTS)


# A revival starts the count afresh: what ended before a person acted is not held against the attempts after it.
_CEILINGS = """
WITH revived AS (SELECT item_id, fence FROM inspect.moves WHERE move = ANY (%(afresh)s)),
ended AS (
  SELECT a.item_id, a.cause, a.fence, bool_or(a.stage = 'route') AS unpinned, count(r.item_id) AS life
    FROM inspect.attempts a LEFT JOIN revived r ON r.item_id = a.item_id AND r.fence < a.fence
   WHERE a.cause IS NOT NULL GROUP BY a.item_id, a.cause, a.fence),
counted AS (SELECT item_id, cause, life, count(*) AS attempts, bool_or(unpinned) AS unpinned
              FROM ended
             GROUP BY item_id, cause, life),
limits AS (
  SELECT * FROM unnest(%(names)s::text[], %(versions)s::text[], %(causes)s::text[], %(ceilings)s::int[])
    AS l (name, version, cause, ceiling))
SELECT 4,
       'item ' || c.item_id || ': ' || c.attempts || ' attempts ended for ' || c.cause || ', at most ' || m.ceiling
       || ' may'
  FROM counted c JOIN inspect.items i ON i.id = c.item_id
  JOIN limits d ON d.name = '' AND d.cause = c.cause
  LEFT JOIN limits k ON (k.name, k.version, k.cause) = (i.contract, i.contract_version, c.cause)
  CROSS JOIN LATERAL (SELECT CASE WHEN k.ceiling IS NULL THEN d.ceiling
    -- Before an item is pinned to its contract, the default ceilings hold.
    WHEN c.unpinned THEN greatest(k.ceiling, d.ceiling) ELSE k.ceiling END AS ceiling) m
 WHERE c.attempts > m.ceiling
UNION ALL
SELECT 4, 'item ' || t.item_id || ': an execution under fence ' || t.fence || ' has no lease'
  FROM attempts t WHERE NOT EXISTS (
    SELECT FROM moves m JOIN legal_moves g ON g.number = m.legal AND g.to_state = 'leased'
     WHERE m.item_id = t.item_id AND m.fence = t.fence)
"""


def check_ceilings(context: CheckContext, counts: ViolationCounts) -> None:
    """Note items whose attempts ended for a cause more often than its ceiling allows, and executions outside any lease."""
    report_violations(context, counts, _CEILINGS, context.pins.ceilings() | {"afresh": _AFRESH})
