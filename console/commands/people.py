"""token, whoami, login: who acts, and how they prove it."""

import shlex
import sys
from typing import Any

import click
from console.output import document, formats, listing, printable, say
from contracts.errors import BadInput, Conflict, Denied, NotFound

_ROLES = ("submitter", "reviewer", "operator", "author", "reader", "admin")


@click.group()
def token() -> None:
    """Make, list and revoke tokens. A token is shown once; only its hash is kept.

    \b
    Example:
      shopfloor token new --actor ada --role reviewer --days 90
    """


@token.command()
@click.option("--actor", required=True, metavar="NAME", help="who it belongs to; made if not there")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(_ROLES),
    help="a role that the actor gets, besides those already held; repeat for more",
)
@click.option(
    "--kind",
    type=click.Choice(["person", "service"]),
    default="person",
    show_default=True,
    help="only persons may decide",
)
@click.option("--days", type=click.IntRange(1, 3660), help="ends after this many days; unset: when revoked")
@click.option("--label", default="", help="what it is for")
@click.option("--enable", is_flag=True, help="bring back an actor who was disabled")
@click.option("--dry-run", is_flag=True, help="check, make nothing")
@formats()
def new(actor: str, roles: tuple[str, ...], kind: str, days: int | None, label: str, enable: bool, dry_run: bool, form: str) -> None:
    """Make a token for a person or a service, and print it once on stdout.

    Needs the role admin; the first admin of a workspace may be made by whoever has the operators' database login.

    \b
    Example:
      shopfloor token new --actor ada --role reviewer --days 90 > ada.token
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.access.actors import admit_actor, roles_of
    from pipeline.access.tokens import issue_token

    if not 1 <= len(actor) <= 120 or not actor.isprintable() or actor != actor.strip() or ":" in actor:
        raise BadInput("an actor's name has 1 to 120 printable characters and no colon", code="actor.name")
    with session(Role.OPERATE) as s:
        _may_manage(s, first_admin="admin" in roles)
        with s.conn.transaction(force_rollback=dry_run):
            found = admit_actor(s.conn, s.workspace, actor, kind=kind, roles=roles, by=s.actor, enable=enable)
            made = issue_token(s.conn, s.workspace, found, label=label or f"made by {s.actor}", by=s.actor, days=days)
            held = roles_of(s.conn, made)
    if form == "json":
        document({"actor": actor, "roles": held, "kind": kind, "token": None if dry_run else made, "dry_run": dry_run})
        return
    if dry_run:
        click.echo(f"a token of {printable(actor)} would be made; roles: {', '.join(held) or 'none'}")
        return
    click.echo(made)
    say(f"shown this once. {printable(actor)} types: shopfloor login", err=True)


def _may_manage(s: Any, *, first_admin: bool = False) -> None:
    """Return when the actor is an admin, or makes the workspace's first one. Raises Denied."""
    from pipeline.access.actors import has_admin, roles_of

    if "admin" in roles_of(s.conn, s.token) or (first_admin and not has_admin(s.conn, s.workspace)):
        return
    raise Denied(f"{s.actor} does not hold the role admin", hint="ask an admin; see: shopfloor whoami", code="denied.role")


@token.command("list")
@click.option("--all", "every", is_flag=True, help="revoked and expired ones too")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@formats(rows=True)
def list_(every: bool, limit: int, form: str) -> None:
    """List tokens by owner, never the tokens themselves.

    \b
    Example:
      shopfloor token list
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.access.actors import tokens

    with session(Role.OPERATE, needs="operator") as s:
        found = tokens(s.conn, s.workspace, every=every, most=limit)
    columns = ["id", "actor", "kind", "roles", "label", "created_at", "expires_at", "state"]
    if form == "text":
        found = [row | {"roles": " ".join(row["roles"])} for row in found]
    listing(form, found, name="tokens", columns=columns, empty="no tokens")


@token.command()
@click.argument("token_id", required=False)
@click.option("--actor", metavar="NAME", help="all tokens of an actor, who is disabled: approvals not applied yet stop counting")
@click.option("--dry-run", is_flag=True, help="check, revoke nothing")
@formats()
def revoke(token_id: str | None, actor: str | None, dry_run: bool, form: str) -> None:
    """End a token by its id or the beginning of it, or everything of an actor who leaves.

    \b
    Example:
      shopfloor token revoke --actor ada
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.access.actors import disable_actor, tokens
    from pipeline.access.tokens import revoke_token

    if bool(token_id) == bool(actor):
        raise BadInput("give a token id or --actor, not both", hint="shopfloor token list")
    with session(Role.OPERATE) as s:
        _may_manage(s)
        live = [
            row
            for row in tokens(s.conn, s.workspace, every=False, most=100_000)
            if actor == row["actor"] or (token_id and str(row["id"]).startswith(token_id))
        ]
        if token_id and not live:
            raise NotFound(f"no live token begins with {printable(token_id)!r}", hint="shopfloor token list")
        if token_id and len(live) > 1:
            raise BadInput(
                f"{len(live)} live tokens begin with {printable(token_id)!r}: expected one",
                hint="shopfloor token list",
                code="id.ambiguous",
            )
        if not dry_run and actor:
            disable_actor(s.conn, s.workspace, actor, by=s.actor)
        elif not dry_run and token_id:
            revoke_token(s.conn, s.workspace, live[0]["id"], by=s.actor)
    if form == "json":
        document({"revoked": [row["id"] for row in live], "disabled": actor, "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    click.echo(f"{would}revoked: {len(live)} token{'' if len(live) == 1 else 's'} of {printable(actor or live[0]['actor'])}")
    if actor:
        click.echo(f"{printable(actor)} {would or 'is '}disabled")
        say(f"next: shopfloor token new --actor {shlex.quote(printable(actor))} --enable   brings them back")


@click.command()
@formats()
def whoami(form: str) -> None:
    """Say which actor commands act as, with which roles, and where the proof comes from.

    \b
    Example:
      shopfloor whoami
    """
    from console.session import kept_token, session
    from contracts.lifecycle import Role
    from pipeline.access.tokens import actor_of

    with session(Role.READ, needs=None) as s:
        actor = actor_of(s.conn, s.token) if s.token else None
        kept = kept_token(s.shop)
    source = _proof(s.shop.settings.token is not None, kept)
    fields = {
        "actor": s.actor,
        "kind": actor.kind if actor else None,
        "roles": list(actor.roles) if actor else [],
        "workspace": s.shop.settings.workspace,
        "proof": source,
    }
    if form == "json":
        document(fields)
        return
    known = f"{actor.kind}, roles: {', '.join(actor.roles) or 'none'}" if actor else "no token: may read, and neither decide nor steer"
    click.echo(f"{printable(s.actor)} in workspace {fields['workspace']} ({known}; {source})")
    if actor is None:
        say("next: shopfloor login")


def _proof(is_set: bool, kept: str) -> str:
    """Return where the token in use comes from."""
    from console.session import login_path

    if is_set:
        return "SHOPFLOOR_TOKEN"
    if not kept:
        return "nobody is logged in"
    path = login_path()
    is_login = path.exists() and path.read_text(encoding="ascii", errors="replace").strip() == kept
    return str(path) if is_login else "the embedded default"


@click.command()
@click.option("--remove", is_flag=True, help="log out: delete the kept token")
@formats()
def login(remove: bool, form: str) -> None:
    """Keep a token for this user of the machine, readable by nobody else.

    It is read from stdin, or asked for on a terminal.

    \b
    Example:
      shopfloor login < ada.token
    """
    from console.session import login_path
    from contracts.lifecycle import Role
    from pipeline.access.tokens import actor_of
    from pipeline.startup.compose import open_shop
    from queues.embedded import write_atomically

    path = login_path()
    if remove:
        had = path.exists()
        path.unlink(missing_ok=True)
        document({"removed": had}) if form == "json" else click.echo("logged out" if had else "no token was kept")
        return
    text = click.prompt("token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline(4096)
    given = str(text).strip()
    if not given or not given.isascii() or not given.isprintable():
        raise BadInput("no token on standard input: expected one line that starts with shf_", hint="shopfloor login < FILE")
    shop = open_shop(start=False)
    with shop.connect(Role.READ, name="shopfloor-login") as conn:
        actor = actor_of(conn, given)
        if actor.workspace_id != shop.workspace_id(conn):
            raise Conflict(
                f"the token belongs to another workspace than {shop.settings.workspace}",
                hint="set SHOPFLOOR_WORKSPACE, then log in",
            )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, given + "\n", 0o600)
    if form == "json":
        document({"actor": actor.name, "roles": actor.roles, "kept_in": path})
    else:
        click.echo(f"logged in as {printable(actor.name)} ({', '.join(actor.roles) or 'no roles'}); kept in {path}")
        if shop.settings.token is not None:
            click.echo("SHOPFLOOR_TOKEN is set and goes before it: unset it", err=True)
