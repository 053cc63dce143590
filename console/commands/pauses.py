"""pause, resume: switches on a scope, with who, why and until."""

import shlex

import click
from console.output import cell, document, formats, listing, printable, say
from contracts.errors import BadInput

_SCOPES = "SCOPE is all, workspace, pod:NAME, flow:NAME, lane:NAME, cell:NAME, order:NAME or item:NAME."


@click.command(epilog=_SCOPES)
@click.argument("scope")
@click.option("--why", default="", help="for whoever finds it; required")
@click.option("--until", metavar="TIME", help="lifts itself then: 2h, or 2026-01-31T18:00+01:00; unset: until resumed")
@click.option("--dry-run", is_flag=True, help="check the scope, pause nothing")
@formats(rows=True)
def pause(scope: str, why: str, until: str | None, dry_run: bool, form: str) -> None:
    """Stop a scope from starting work, or list what is paused; what is running now ends and is recorded.

    \b
    Example:
      shopfloor pause flow:issue-sweep --why "release freeze" --until 2h
      shopfloor pause list
    """
    from console.session import session
    from console.spans import instant_of
    from contracts.lifecycle import Role
    from queues.database import now
    from queues.pauses import pause as set_pause
    from queues.pauses import scope_of

    if scope == "list":
        _list(form)
        return
    if not why.strip():
        raise BadInput("a pause needs a reason for whoever finds it", hint=f'shopfloor pause {shlex.quote(scope)} --why "release freeze"')
    with session(Role.OPERATE, needs="operator") as s:
        found = scope_of(s.conn, s.workspace, scope)
        at = now(s.conn)
        ends = instant_of(until, now=at) if until else None
        if ends is not None and ends <= at:
            raise BadInput(f"--until {until} has passed already")
        if not dry_run:
            set_pause(s.conn, s.workspace, found, why=why, by=s.actor, until=ends)
    if form == "json":
        document({"scope": scope, "why": why, "until": ends, "paused": not dry_run})
        return
    held = f"until {cell(ends)}" if ends else "until it is resumed"
    say(f"{printable(scope)} {'would be' if dry_run else 'is'} paused {held}. Lift it: shopfloor resume {shlex.quote(printable(scope))}")


@click.command(epilog=_SCOPES)
@click.argument("scope")
@click.option("--dry-run", is_flag=True, help="say which pauses would be lifted, lift none")
@formats()
def resume(scope: str, dry_run: bool, form: str) -> None:
    """Lift every pause of exactly this scope.

    \b
    Example:
      shopfloor resume flow:issue-sweep
    """
    from console.acting import ring
    from console.session import session
    from contracts.lifecycle import Role
    from queues.claims import lanes_due
    from queues.pauses import active_pauses, scope_of
    from queues.pauses import resume as lift

    with session(Role.OPERATE, needs="operator") as s:
        found = scope_of(s.conn, s.workspace, scope)
        if dry_run:
            lifted = sum(one.scope == scope for one in active_pauses(s.conn, s.workspace))
        else:
            lifted = lift(s.conn, s.workspace, found, by=s.actor)
            ring(s.shop, lanes_due(s.conn))
        others = [one.scope for one in active_pauses(s.conn, s.workspace) if one.scope != scope]
    if form == "json":
        document({"scope": scope, "lifted": lifted, "resumed": not dry_run, "still_paused": others})
        return
    click.echo(f"{scope}: {lifted} pause{'' if lifted == 1 else 's'} {'would be ' if dry_run else ''}lifted")
    if others:
        click.echo(f"still paused: {', '.join(others)}", err=True)


def _list(form: str) -> None:
    from console.session import session
    from contracts.lifecycle import Role
    from queues.pauses import active_pauses

    with session(Role.READ) as s:
        found = [one._asdict() for one in active_pauses(s.conn, s.workspace)]
    columns = ["scope", "why", "actor", "created_at", "until"] if form == "text" else ["id", "scope", "why", "actor", "created_at", "until"]
    listing(form, found, name="pauses", columns=columns, empty="nothing is paused")
