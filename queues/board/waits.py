"""What an item waits for that no worker can give it: reviewers, people, other work."""

from typing import Any

from queues.board.endings import Explanation, format_duration, one_row
from queues.database import Connection
from queues.predicates import IS_STREAM, UNCONFIRMED, UNREAD

_PROPOSAL = """
SELECT p.id, p.action, p.target, p.adapter, p.state, p.expires_at,
       c.tier, c.needed,
       c.state AS clearance,
       c.due_at,
       coalesce((
         SELECT array_agg(a.name ORDER BY d.decided_at)
           FROM decisions d
           JOIN actors a ON a.id = d.actor_id
          WHERE d.clearance_id = c.id AND d.decision = 'approve'), '{}') AS approved_by
  FROM proposals p
  LEFT JOIN clearances c ON c.proposal_id = p.id
 WHERE p.item_id = %s
 ORDER BY p.epoch DESC
 LIMIT 1
"""


def explain_approval(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return how many approvals of what are missing, and who gave one already."""
    proposal = one_row(conn, _PROPOSAL, row["item_id"])
    if proposal is None or proposal["clearance"] is None:
        return Explanation(f"waits for {row['waiting_on']}", "a reviewer decides", None, ("shopfloor review inbox",))
    look = f"shopfloor review show {proposal['id']}"
    act = f"{proposal['action']} {proposal['target']}"
    if proposal["clearance"] != "open":
        words = f"decided: the clearance of '{act}' is {proposal['clearance']}"
        return Explanation(words, "the sweeper moves it on within a second", None, (look, "shopfloor sweeper --once"))
    needed, had = proposal["needed"], proposal["approved_by"]
    words = f"needs {needed} approval{'' if needed == 1 else 's'}, has {len(had)}: '{act}' (tier {proposal['tier']})"
    words += f"; approved by {', '.join(had)}" if had else ""
    if proposal["due_at"] and proposal["due_at"] < row["now"]:
        words += f"; overdue for {format_duration((row['now'] - proposal['due_at']).total_seconds())}"
    left = (proposal["expires_at"] - row["now"]).total_seconds()
    return Explanation(
        words,
        f"{'another' if had else 'a'} reviewer decides: approved it goes to lane apply.{proposal['adapter']}; "
        f"unanswered it expires in {format_duration(left)} and is then redone",
        proposal["expires_at"],
        (look, f"shopfloor review approve {proposal['id']}"),
    )


_FINDINGS = "SELECT code, message FROM findings WHERE item_id = %s ORDER BY fence DESC, id DESC LIMIT 3"


def explain_human(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return who asked for a person, and what was found."""
    item = row["item_id"]
    found = list(dict.fromkeys(f"{code}: {message}" for code, message in conn.execute(_FINDINGS, [item])))
    words = f"waits for {row['waiting_on']}"
    words += f"; {row['actor']} asked: {row['note']}" if row["note"] else ""
    words += f"; found: {'; '.join(found)}" if found else ""
    return Explanation(
        words,
        "nothing, until somebody sends it back to its cell, makes it due again, or ends it",
        None,
        (f"shopfloor show {item}", f"shopfloor rework {item} --why 'look again'", f"shopfloor requeue {item}", f"shopfloor cancel {item}"),
    )


_SENT = f"""
SELECT a.id,
       a.adapter,
       a.intent_at,
       p.action,
       p.target
  FROM proposals p
  JOIN applies a ON a.proposal_id = p.id
 WHERE p.item_id = %s AND {UNCONFIRMED}
 ORDER BY a.intent_at DESC
 LIMIT 1
"""


def explain_unknown(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return what was sent whose effect nobody knows."""
    sent = one_row(conn, _SENT, row["item_id"])
    act = f"'{sent['action']} {sent['target']}' through {sent['adapter']}" if sent else "an action"
    ago = f" {format_duration((row['now'] - sent['intent_at']).total_seconds())} ago" if sent else ""
    return Explanation(
        f"{act} was sent{ago} and its effect could not be learned: {row['note'] or row['waiting_on']}",
        "nothing is ever sent blindly again: a person looks at the target and says what became of it",
        None,
        (f"shopfloor apply show {sent['id'] if sent else row['item_id']}", f"shopfloor apply probe {row['item_id']}"),
    )


_BATCH = f"""
SELECT b.state, b.rows_read, b.finished_at, ({UNREAD}) AS unread, ({IS_STREAM}) AS is_stream,
       extract(epoch FROM clock() - b.read_at)::float8 AS seconds
  FROM batches b
 WHERE b.id = %s::uuid
"""


def how_to_complete(*, is_stream: bool) -> str:
    """Return what a person does about a batch whose intake is gone before its last row."""
    if is_stream:
        return "its rows came from standard input: give all of them to a new intake, those that are in count as duplicates"
    return "type the same `shopfloor intake` again, it goes on from there"


def explain_dependency(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return which batch or other work has to end first."""
    kind, _, batch_id = row["waiting_on"].partition(" ")
    batch = one_row(conn, _BATCH, batch_id) if kind == "batch" else None
    if batch is None:
        return Explanation(f"waits for {row['waiting_on']} to end", "it starts when that has ended", None, ())
    if batch["state"] != "reading":
        words = f"batch {batch_id}, which it waited for, is {batch['state']}"
        return Explanation(words, "the sweeper releases it within a second", None, ("shopfloor sweeper --once",))
    if batch["unread"]:
        return Explanation(
            f"waits until batch {batch_id} is complete: {batch['rows_read']} rows so far, and its intake has been gone for {format_duration(batch['seconds'])}",
            f"{how_to_complete(is_stream=batch['is_stream'])}; after ten minutes the batch is ended and what is in starts",
            None,
            (f"shopfloor batch show {batch_id}",),
        )
    return Explanation(
        f"waits until batch {batch_id} is complete: {batch['rows_read']} rows so far, the intake still reads",
        "the end of the intake releases it; an intake that died goes on when the same command is run again",
        None,
        (f"shopfloor batch show {batch_id}",),
    )
