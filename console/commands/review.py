"""review: see exactly what will run, then decide."""

from collections.abc import Sequence
from typing import Any

import click
from console.acting import each_of
from console.commands import deciding
from console.commands.deciding import PROPOSAL
from console.output import age, document, formats, listing, printable, say


@click.group()
def review() -> None:
    """The inbox: see exactly what will run, then decide.

    \b
    Example:
      shopfloor review inbox
      shopfloor review next
    """


@review.command()
@click.option("--finding", help="proposals of one finding")
@click.option("--action", help="proposals of one action, such as close")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 2000), help="proposals shown")
@formats(rows=True)
def inbox(finding: str | None, action: str | None, limit: int, form: str) -> None:
    """List what waits for reviewers, the most trusted first.

    Proposals that ask for the same thing stand together. Trust is the cell's confidence, then how often people
    approved that finding in the last 30 days, then age.

    \b
    Example:
      shopfloor review inbox --finding resolved_by_merged_pr
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.inbox import INBOX_LIMIT, group_proposals, read_inbox
    from queues.database import now

    with session(Role.READ) as s:
        found = read_inbox(s.conn, s.shop.store, s.workspace, finding=finding, action=action, limit=INBOX_LIMIT + 1)
        at = now(s.conn)
    more = len(found) > INBOX_LIMIT
    groups = group_proposals(found[:INBOX_LIMIT])
    shown = _cut(groups, limit)
    if form != "text":
        rows = [_row(one, number) for number, group in enumerate(shown, 1) for one in group]
        if form == "json":
            document(
                {
                    "open": len(found[:INBOX_LIMIT]),
                    "more": more,
                    "groups": [_group(g, k) for k, g in enumerate(groups, 1)],
                    "proposals": rows,
                }
            )
        else:
            listing(form, rows, name="proposals", columns=list(_row(found[0], 1)) if found else None)
        return
    if not groups:
        click.echo("nothing waits for a reviewer")
        return
    for group, part in zip(groups, shown, strict=True):
        _tell_group(group, part, at, s.actor)
    seen = f"more than {INBOX_LIMIT}; narrow with --finding" if more else f"{len(found)}"
    say(f"{seen} open in {len(groups)} groups. Look: shopfloor review next   shopfloor review show PROPOSAL")


def _cut(groups: Sequence[Sequence[Any]], limit: int) -> list[Sequence[Any]]:
    """Return the groups with at most `limit` members in all, each group's most trusted first."""
    shown = []
    for group in groups:
        shown.append(group[: max(0, limit)])
        limit -= len(group)
    return shown


def _row(one: Any, number: int) -> dict[str, Any]:
    return {
        "group": number,
        "id": one.id,
        "item_id": one.item_id,
        "target": one.target,
        "title": one.title,
        "finding": one.finding,
        "action": one.action,
        "adapter": one.adapter,
        "confidence": round(one.confidence, 4),
        "tier": one.tier,
        "needed": one.needed,
        "approvals": one.approvals,
        "author": one.author,
        "submitter": one.submitter,
        "proposal_sha256": one.sha256,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
    }


def _group(group: Sequence[Any], number: int) -> dict[str, Any]:
    first = group[0]
    return {
        "group": number,
        "count": len(group),
        "finding": first.finding,
        "action": first.action,
        "adapter": first.adapter,
        "tier": first.tier,
        "payload": first.shape,
        "confidence": [round(group[-1].confidence, 4), round(first.confidence, 4)],
        "approved_before": first.approved_before,
        "rejected_before": first.rejected_before,
        "oldest": min(one.created_at for one in group),
    }


def _tell_group(group: Sequence[Any], part: Sequence[Any], now: Any, actor: str) -> None:
    first, last = group[0], group[-1]
    low, high = f"{last.confidence:.2f}", f"{first.confidence:.2f}"
    decided = first.approved_before + first.rejected_before
    record = f"{first.approved_before} of {decided} approved" if decided else "no record yet"
    oldest = age((now - min(one.created_at for one in group)).total_seconds())
    click.echo(f"{len(group)} × {printable(first.finding)} → {printable(first.action)} {printable(first.shape)}")
    click.echo(f"    confidence {low if low == high else f'{low}–{high}'}, {record}, tier {first.tier}, oldest {oldest}")
    for one in part:
        mine = "" if one.may_be_decided_by(actor) else "   (not by you)"
        second = f"   {one.approvals} of {one.needed} approved" if one.approvals else ""
        click.echo(f"    {one.id}  {one.confidence:.2f}  {printable(one.target)}  {printable(one.title)[:60]}{second}{mine}")
    if len(part) < len(group):
        click.echo(f"    … {len(group) - len(part)} more: --limit")
    click.echo("")


@review.command(epilog=PROPOSAL)
@each_of("proposal", "PROPOSAL")
@click.option("--raw", is_flag=True, help="the exact bytes that an approval binds, and nothing else")
@formats()
def show(proposal: str, raw: bool, form: str) -> None:
    """Show the exact bytes that will run, diff and evidence.

    And what a decision needs: who may give it, until when, and what else is proposed for the target.

    \b
    Example:
      shopfloor review show northwind-labs/tidewater#8
      shopfloor review show northwind-labs/tidewater#8 --raw | sha256sum
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.proposal import find_proposal

    with session(Role.READ) as s:
        _show(s, find_proposal(s.conn, s.workspace, proposal), form, raw=raw)


@review.command("next")
@click.option("--finding", help="of one finding")
@formats()
def next_(finding: str | None, form: str) -> None:
    """Show the most trusted proposal that you may decide on.

    \b
    Example:
      shopfloor review next
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.inbox import read_inbox

    with session(Role.READ, needs="reviewer") as s:
        found = read_inbox(s.conn, s.shop.store, s.workspace, finding=finding, limit=200)
        mine = next((one for one in found if one.may_be_decided_by(s.actor)), None)
        if mine is not None:
            _show(s, mine.id, form)
        elif form == "json":
            document({"proposal": None})
        else:
            click.echo(f"nothing waits for {s.actor}" + (f"; {len(found)} wait for others" if found else ""))


def _show(s: Any, proposal_id: Any, form: str, *, raw: bool = False) -> None:
    from console.proposal_page import lines_of
    from pipeline.review.preview import OPEN_ADAPTERS, against_target
    from pipeline.review.proposal import must_not_decide, proposal_details

    one = proposal_details(s.conn, s.shop.store, s.workspace, proposal_id)
    if raw:
        click.echo(one["envelope_bytes"], nl=False)
        return
    target = against_target(s.shop, one["envelope"]) if one["adapter"] in OPEN_ADAPTERS else None
    if form == "json":
        text = one.pop("envelope_bytes").decode()
        sha256 = one.pop("sha256")
        document(
            {
                "proposal": one
                | {
                    "proposal_sha256": sha256,
                    "envelope_text": text,
                    "target_now": target,
                    "may_not_decide": must_not_decide(one),
                }
            }
        )
        return
    for line in lines_of(one, target):
        click.echo(line)


for answer in (deciding.approve, deciding.reject, deciding.rework):
    review.add_command(answer)
