"""apply: what was applied, what will be, and what became of it."""

import json
from typing import Any

import click
from console.acting import ring
from console.output import cell, document, formats, listing, printable
from contracts.errors import BadInput

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
    "--state", type=click.Choice(["due", "intent", "applied", "failed", "unknown"]), help="due: approved and not begun"
)
@click.option("--adapter", help="applies of one adapter")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="rows shown")
@click.option("--cursor", metavar="ID", help="go on where an earlier list ended")
@formats(rows=True)
def list_(state: str | None, adapter: str | None, limit: int, cursor: str | None, form: str) -> None:
    """List applies, the latest first.

    \b
    Example:
      shopfloor apply list --state unknown
    """
    from console.session import one_id, session
    from contracts.lifecycle import Role
    from pipeline.applied import applies

    with session(Role.READ) as s:
        before = one_id(cursor) if cursor else None
        found = applies(s.conn, s.workspace, state=state, adapter=adapter, before=before, most=limit + 1)
    shown, more = found[:limit], len(found) > limit
    if form == "json":
        document({"applies": shown, "cursor": shown[-1]["id"] if more else None})
        return
    names = ["id", "state", "action", "target", "adapter", "finding", "intent_at", "finished_at"]
    listing(
        form,
        shown,
        name="applies",
        columns=names if form == "text" else [*names, "proposal_id", "item_id"],
        empty="nothing was applied",
    )
    if more:
        click.echo(f"more: --cursor {shown[-1]['id']}", err=True)


@apply_group.command(epilog=_APPLY)
@click.argument("apply")
@formats()
def show(apply: str, form: str) -> None:
    """Show one apply: what was sent, byte for byte, what came back, and every move around it.

    \b
    Example:
      shopfloor apply show northwind-labs/tidewater#8
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.applied import find_apply, story
    from workcells.appliers.preview import visible

    with session(Role.READ) as s:
        one = story(s.conn, s.shop.store, s.workspace, find_apply(s.conn, s.workspace, apply))
    if form == "json":
        document({"apply": one})
        return
    click.echo(
        f"{printable(one['action'])} {printable(one['target'])}: {one['state']}   adapter {one['adapter']} ({one['idempotency_class']})"
    )
    click.echo(
        f"apply {one['id']}   proposal {one['proposal_id']} ({one['proposal_state']})   item {one['item_id']} ({one['stage']}/{one['item_state']})"
    )
    click.echo(f"intent {cell(one['intent_at'])}   finished {cell(one['finished_at'])}   key {one['action_id'].hex()}")
    for title, value in (("sent", one["envelope"]), ("receipt", one["receipt"])):
        click.echo(f"\n{title}:" + ("" if value is not None else " none"))
        if value is not None:
            for line in json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True).split("\n"):
                click.echo(f"  {visible(line)}")
    click.echo("\nmoves:")
    for row in one["moves"]:
        click.echo(
            f"  {cell(row['at'])}  {row['move']}, fence {row['fence']}, {printable(row['actor'])}: {cell(row['reason'])}"
        )
    if one["state"] in ("intent", "unknown") and one["item_state"] != "leased":
        click.echo(
            f"\nnext: shopfloor apply probe {one['id']}   then, if the target cannot tell, --is applied or --is absent"
        )


@apply_group.command()
@click.argument("proposals", nargs=-1, required=True, metavar="PROPOSAL…")
@formats()
def preview(proposals: tuple[str, ...], form: str) -> None:
    """Show what proposals would change in their live targets; reads the targets with your own credentials, sends nothing.

    \b
    Example:
      shopfloor apply preview northwind-labs/tidewater#8
    """
    from console.acting import given
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.inbox import dossier, find_proposal
    from pipeline.preview import against_target

    seen = []
    with session(Role.READ) as s:
        for word in given(proposals):
            one = dossier(s.conn, s.shop.store, s.workspace, find_proposal(s.conn, s.workspace, word))
            seen.append(
                {"id": one["id"], "target": one["target"], "action": one["action"], "state": one["state"]}
                | against_target(s.shop, one["envelope"])
            )
    if form == "json":
        document({"previews": seen})
        return
    for found in seen:
        click.echo(
            f"{printable(found['action'])} {printable(found['target'])}, proposal {found['id']} ({found['state']})"
        )
        if found["error"]:
            click.echo(f"  cannot be read now: {printable(found['error'])}")
            continue
        for line in found["diff"].split("\n") if found["diff"] else ["(it would change nothing)"]:
            click.echo(f"  {line}")
        for name, both in found["changed"].items():
            click.echo(
                f"  ! {printable(name)} was {cell(json.dumps(both['then']))}, is {cell(json.dumps(both['now']))}: applied now, this drifts"
            )


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
    applied closes the item; absent gives it a fresh look, and a new proposal needs a new approval.

    \b
    Example:
      shopfloor apply probe northwind-labs/tidewater#8
      shopfloor apply probe northwind-labs/tidewater#8 --is applied --reason "closed by us at 10:02"
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.applied import find_apply, probe_again, resolve

    if answer and not reason.strip():
        raise BadInput("--is needs --reason: what you saw at the target")
    with session(Role.OPERATE, needs="operator") as s:
        one = find_apply(s.conn, s.workspace, apply)
        if one["state"] not in ("intent", "unknown"):
            from contracts.errors import Conflict

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
        document(
            {
                "id": one["id"],
                "item_id": one["item_id"],
                "target": one["target"],
                "outcome": outcome,
                "dry_run": dry_run,
            }
        )
    else:
        click.echo(
            f"{'would be ' if dry_run else ''}{outcome}: apply {one['id']}, {printable(one['target'])}. See: shopfloor why {one['item_id']}"
        )
