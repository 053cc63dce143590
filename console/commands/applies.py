"""apply: what was applied, what will be, and what became of it."""

from collections.abc import Iterator
from typing import Any

import click
from console.acting import each_of, ring
from console.output import as_typed, cell, document, formats, listing, printable, say
from contracts.errors import BadInput, Conflict

_APPLY = "APPLY is an apply's id, its proposal's or item's id, or a subject such as owner/repo#12."


@click.group("apply")
def apply_group() -> None:
    """What was applied, what will be, and what became of it.

    \b
    Example:
      shopfloor apply list --state unknown
    """


@apply_group.command("list")
@click.option(
    "--state",
    type=click.Choice(["due", "intent", "applied", "failed", "drifted", "expired", "unknown"]),
    help="due: approved and not begun",
)
@click.option("--adapter", help="applies of one adapter")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="rows shown")
@click.option("--cursor", metavar="ID", help="go on where an earlier list ended")
@formats(rows=True)
def list_(state: str | None, adapter: str | None, limit: int, cursor: str | None, form: str) -> None:
    """List applies, the latest first.

    Also those of which nothing was sent, because the target was gone or had changed, or the approval no longer held.

    \b
    Example:
      shopfloor apply list --state unknown
    """
    from console.session import one_id, session
    from contracts.lifecycle import Role
    from pipeline.review.applies import applies

    with session(Role.READ) as s:
        before = one_id(cursor) if cursor else None
        found = applies(s.conn, s.workspace, state=state, adapter=adapter, before=before, limit=limit + 1)
    shown, more = found[:limit], len(found) > limit
    if form == "json":
        document({"applies": shown, "next_cursor": shown[-1]["id"] if more else None})
        return
    names = ["id", "state", "action", "target", "adapter", "finding", "intent_at", "finished_at"]
    listing(
        form,
        shown,
        name="applies",
        columns=names if form == "text" else [*names, "proposal_id", "item_id"],
        empty=f"no apply {'of ' + adapter + ' ' if adapter else ''}is {state}" if state else "nothing was applied",
    )
    if more:
        click.echo(f"more: --cursor {shown[-1]['id']}", err=True)


@apply_group.command(epilog=_APPLY)
@each_of("apply", "APPLY")
@formats()
def show(apply: str, form: str) -> None:
    """Show one apply: what was sent, byte for byte, what came back, and every move around it.

    \b
    Example:
      shopfloor apply show northwind-labs/tidewater#8
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.applies import apply_details, find_apply

    with session(Role.READ) as s:
        one = apply_details(s.conn, s.shop.store, s.workspace, find_apply(s.conn, s.workspace, apply))
    if form == "json":
        document({"apply": one})
        return
    for line in _page(one):
        click.echo(line)


def _page(one: dict[str, Any]) -> Iterator[str]:
    """Yield one apply line by line, every character that a screen would obey made visible."""
    from console.proposal_page import pretty

    yield f"{printable(one['action'])} {printable(one['target'])}: {one['state']}"
    if one["action_id"] is not None:
        yield f"apply {one['id']}   through {one['adapter']} ({one['idempotency_class']})   key {one['action_id'].hex()}"
    yield f"proposal {one['proposal_id']} is {one['proposal_state']}   item {one['item_id']} is {_state_of(one)}"
    if one["intent_at"] is None:
        yield f"nothing was sent: {printable(one['why'] or 'no finding says why')}"
    else:
        yield f"intent {cell(one['intent_at'])}   finished {cell(one['finished_at'])}"
    bytes_are = "approved" if one["intent_at"] is None else "sent"
    for title, value in ((bytes_are, one["envelope"]), ("receipt", one["receipt"])):
        yield ""
        yield f"{title}:" + ("" if value is not None else " none")
        yield from (f"  {line}" for line in pretty(value)) if value is not None else ()
    yield ""
    yield "moves:"
    for row in one["moves"]:
        who = f"fence {row['fence']}, {printable(row['actor'])}"
        yield f"  {cell(row['at'])}  {row['move']}, {who}: {cell(row['reason'])}"
    if one["state"] in ("intent", "unknown") and one["item_state"] != "leased":
        yield ""
        yield as_typed(f"next: shopfloor apply probe {one['id']}")
        yield "or, where the target cannot tell and you have looked:"
        yield as_typed(f"  shopfloor apply probe {one['id']} --is applied --reason WHAT")
        yield as_typed(f"  shopfloor apply probe {one['id']} --is absent --reason WHAT")


def _state_of(one: dict[str, Any]) -> str:
    return f"{one['stage']}/{one['item_state']}"


@apply_group.command()
@click.argument("proposals", nargs=-1, required=True, metavar="PROPOSAL…")
@formats()
def preview(proposals: tuple[str, ...], form: str) -> None:
    """Show what proposals would change in their live targets; sends nothing.

    The targets are read with your own credentials: those of your shell's settings.

    \b
    Example:
      shopfloor apply preview northwind-labs/tidewater#8
    """
    from console.acting import given
    from console.proposal_page import target_lines
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.preview import against_target
    from pipeline.review.proposal import find_proposal, proposal_details

    seen = []
    with session(Role.READ) as s:
        for word in given(proposals):
            one = proposal_details(s.conn, s.shop.store, s.workspace, find_proposal(s.conn, s.workspace, word))
            seen.append(
                {"id": one["id"], "target": one["target"], "action": one["action"], "state": one["state"]}
                | against_target(s.shop, one["envelope"])
            )
    if form == "json":
        document({"previews": seen})
        return
    for found in seen:
        about = f"{printable(found['action'])} {printable(found['target'])}"
        click.echo(f"{about}, proposal {found['id']} ({found['state']})")
        if found["error"]:
            click.echo(f"  cannot be read now: {printable(found['error'])}")
            continue
        for line in target_lines(found):
            click.echo(line)


@apply_group.command(epilog=_APPLY)
@click.argument("apply")
@click.option(
    "--is",
    "answer",
    type=click.Choice(["applied", "absent"]),
    help="you looked at the target yourself: it was done, or it was not",
)
@click.option("--reason", default="", help="what you saw; with --is")
@click.option("--dry-run", is_flag=True, help="say what would happen, do nothing")
@formats()
def probe(apply: str, answer: str | None, reason: str, dry_run: bool, form: str) -> None:
    """Learn what became of an apply whose effect is not known; nothing is ever sent blindly again.

    Without --is the apply lane asks the target, with its own credentials. With --is your word is recorded:
    applied closes the item; absent sends it back to its cell, and a new proposal needs a new approval.

    \b
    Example:
      shopfloor apply probe northwind-labs/tidewater#8
      shopfloor apply probe northwind-labs/tidewater#8 --is applied --reason "closed by us at 10:02"
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.review.applies import find_apply, probe_again, resolve

    if answer and not reason.strip():
        raise BadInput("--is needs --reason: what you saw at the target")
    with session(Role.OPERATE, needs="operator") as s:
        one = find_apply(s.conn, s.workspace, apply)
        if one["state"] not in ("intent", "unknown"):
            raise Conflict(
                f"apply {one['id']} is {one['state']}: there is nothing to find out",
                hint=f"shopfloor apply show {one['id']}",
                code="apply.ended",
            )
        if not dry_run:
            lane = (
                resolve(s.conn, s.workspace, s.token, one, answer, reason, by=s.actor)
                if answer
                else probe_again(s.conn, s.workspace, one, by=s.actor)
            )
            ring(s.shop, [lane])
    outcome = f"recorded as {answer}" if answer else "due: the apply lane asks the target first"
    _said(one, outcome, form, dry_run=dry_run)


def _said(one: dict[str, Any], outcome: str, form: str, *, dry_run: bool) -> None:
    if form == "json":
        about = {name: one[name] for name in ("id", "item_id", "target")}
        document(about | {"outcome": outcome, "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    click.echo(f"{would}{outcome}: apply {one['id']}, {printable(one['target'])}")
    say(f"next: shopfloor why {one['item_id']}")
