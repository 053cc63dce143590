"""Invariants 5, 6 and 7: what was approved, by whom, and what became of it."""

from contracts.envelope import ENVELOPE_KIND
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations

_ENDS = """
WITH sent AS (
  SELECT proposal_id, count(*) FILTER (WHERE state = 'applied') AS applied,
         count(*) FILTER (WHERE state = 'intent') AS intents,
         count(*) FILTER (WHERE state = 'unknown') AS unknowns
    FROM inspect.applies GROUP BY proposal_id),
ends AS (
  SELECT p.id, p.state, p.item_id, coalesce(s.applied, 0) AS applied, coalesce(s.intents, 0) AS intents,
         coalesce(s.unknowns, 0) AS unknowns, p.epoch = max(p.epoch) OVER (PARTITION BY p.item_id) AS is_newest
    FROM inspect.proposals p LEFT JOIN sent s ON s.proposal_id = p.id)
SELECT 5, 'action ' || action_id || ' of proposal ' || min(proposal_id) || ': applied ' || count(*) || ' times'
  FROM inspect.applies WHERE state = 'applied' GROUP BY workspace, action_id HAVING count(*) > 1
UNION ALL
SELECT 5, 'proposal ' || e.id || ' of item ' || e.item_id || v.text
  FROM ends e JOIN inspect.items i ON i.id = e.item_id
  CROSS JOIN LATERAL (SELECT CASE
    WHEN e.state = 'applied' AND e.applied = 0 THEN ' is applied, and no apply of it is'
    WHEN e.state <> 'applied' AND e.applied > 0 THEN ' is ' || e.state || ', and an apply of it is applied'
    WHEN e.state = 'approved'
         AND (i.archived OR NOT e.is_newest OR NOT (i.stage = 'apply' OR i.stage = 'qa' AND i.state = 'waiting'))
      THEN ' was approved and has no end: its item is in ' || i.stage || '/' || i.state
    WHEN e.state = 'open' AND i.archived THEN ' is open, and its item has ended ' || i.state
    WHEN e.state NOT IN ('approved', 'unknown') AND e.intents > 0
      THEN ' is ' || e.state || ', and an apply of it never ended'
    WHEN (e.state = 'unknown' OR e.unknowns > 0)
         AND NOT (i.stage = 'apply' AND i.state = 'waiting')
         AND i.state <> 'cancelled'
      THEN ' has an unknown effect, and no person is asked: its item is in ' || i.stage || '/' || i.state
    END AS text) v
 WHERE v.text IS NOT NULL
"""


def check_ends(context: CheckContext, counts: ViolationCounts) -> None:
    """Note actions that were applied twice, approvals without an end or with two, and unknown effects that nobody looks at."""
    report_violations(context, counts, _ENDS)


# Counts people; that hashes agree is invariant 7, so that one broken fact is reported once.
_DECISIONS = """
WITH votes AS (
  SELECT a.id, count(DISTINCT d.actor) AS people
    FROM inspect.applies a
    JOIN inspect.proposals p ON p.id = a.proposal_id
    JOIN inspect.decisions d ON d.proposal_id = p.id
   WHERE d.decision = 'approve' AND d.decided_at <= a.intent_at AND d.expires_at > a.intent_at
     AND (d.revoked_at IS NULL OR d.revoked_at > a.intent_at)
     AND d.actor <> p.author AND d.actor <> p.submitter AND d.actor <> ALL (p.editors)
   GROUP BY a.id)
SELECT 6, 'apply ' || a.id || ' of proposal ' || a.proposal_id || CASE
    WHEN c.id IS NULL THEN ' began without a clearance'
    WHEN c.needed <> CASE c.tier WHEN 'none' THEN 0 WHEN 'single' THEN 1 ELSE 2 END
      THEN ': its clearance of tier ' || c.tier || ' asked for ' || c.needed || ' decisions'
    WHEN c.needed < t.needed
      THEN ': its clearance asked for ' || c.needed || ' decisions, the contract demands ' || t.needed
    WHEN coalesce(v.people, 0) < c.needed
      THEN ' began with ' || coalesce(v.people, 0) || ' of ' || c.needed
           || ' valid decisions by people other than author, submitter and editors'
    ELSE ' began while its clearance is ' || c.state END
  FROM inspect.applies a JOIN inspect.proposals p ON p.id = a.proposal_id JOIN inspect.items i ON i.id = p.item_id
  LEFT JOIN inspect.clearances c ON c.proposal_id = a.proposal_id
  LEFT JOIN votes v ON v.id = a.id
  LEFT JOIN unnest(%(names)s::text[], %(versions)s::text[], %(actions)s::text[], %(needed)s::int[])
         AS t (name, version, action, needed)
         ON (t.name, t.version, t.action) = (i.contract, i.contract_version, p.action)
 WHERE c.id IS NULL OR c.state <> 'cleared' OR c.needed <> CASE c.tier
                                                                WHEN 'none' THEN 0
                                                                WHEN 'single' THEN 1
                                                                ELSE 2 END
    OR c.needed < t.needed OR coalesce(v.people, 0) < c.needed
"""


def check_decisions(context: CheckContext, counts: ViolationCounts) -> None:
    """Note applies that began with fewer decisions than their tier and their contract demand."""
    report_violations(context, counts, _DECISIONS, context.pins.tiers())


_HASHES = """
SELECT 7,
       'proposal ' || p.id || ' of item ' || p.item_id || ': no artifact of its item bears its name '
       || p.proposal_sha256
  FROM inspect.proposals p
  LEFT JOIN inspect.artifacts a ON a.item_id = p.item_id AND a.sha256 = p.proposal_sha256 AND a.kind = %(envelope)s
 WHERE a.id IS NULL
UNION ALL
SELECT 7, 'decision ' || d.id || ' on proposal ' || p.id || ': decided on ' || d.proposal_sha256 || ', the proposal is '
       || p.proposal_sha256
  FROM inspect.decisions d JOIN inspect.proposals p ON p.id = d.proposal_id WHERE d.proposal_sha256 <> p.proposal_sha256
UNION ALL
SELECT 7, 'apply ' || a.id || ' of proposal ' || p.id || CASE
    WHEN a.proposal_sha256 <> p.proposal_sha256
      THEN ': sent ' || a.proposal_sha256 || ', the proposal is ' || p.proposal_sha256
    WHEN a.idempotency_key <> a.action_id THEN ': its idempotency key is not its action id'
    ELSE ': its action id does not name this proposal and target' END
  FROM inspect.applies a JOIN inspect.proposals p ON p.id = a.proposal_id
 WHERE a.proposal_sha256 <> p.proposal_sha256 OR a.idempotency_key <> a.action_id
    OR a.action_id <> encode(sha256(decode(p.proposal_sha256, 'hex') || '\\x00'::bytea || convert_to(p.target, 'UTF8')),
                             'hex')
"""


def check_hashes(context: CheckContext, counts: ViolationCounts) -> None:
    """Note proposals, decisions, applies and artifacts that do not all name the same bytes."""
    report_violations(context, counts, _HASHES, {"envelope": ENVELOPE_KIND})
