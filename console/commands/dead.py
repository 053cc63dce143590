"""dead: letters that reached a ceiling, until a person replays or prunes them."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from console.acting import ITEM, ITEMS, Span, carry_out, each_of, given, on_many, refuse_empty_stdin, report
from console.choosing import choose, say_cut, where_option
from console.output import cell, document, formats, listing, printable, say
from contracts.errors import BadInput


@click.group()
def dead() -> None:
    """List, show, replay and prune dead letters. They stay until a person acts.

    \b
    Example:
      shopfloor dead list
    """


@dead.command("list")
@click.option("--lane", help="those of a lane")
@click.option("--flow", help="those of a flow")
@click.option("--error", help="those whose error holds this text")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="letters shown")
@formats(rows=True)
def list_(lane: str | None, flow: str | None, error: str | None, limit: int, form: str) -> None:
    """List dead letters, grouped by what they died of.

    \b
    Example:
      shopfloor dead list --lane apply.tracker
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.dead_letters import by_kind, dead_letters
    from pipeline.operations.selection import MAX_SELECTED

    with session(Role.READ) as s:
        found = dead_letters(s.conn, s.workspace, error=error, lane=lane, flow=flow, limit=MAX_SELECTED + 1)
    if is_cut := len(found) > MAX_SELECTED:
        click.echo(f"more than {MAX_SELECTED:,} match: the latest of them are counted", err=True)
        del found[MAX_SELECTED:]
    kinds = by_kind(found)
    if form != "text":
        rows = [letter._asdict() | {"kind": letter.kind} for letter in found[:limit]]
        if form == "json":
            groups = [{"lane": kind.lane, "error": kind.error, "count": len(kind.letters)} for kind in kinds]
            document({"total": len(found), "is_cut": is_cut, "groups": groups, "dead": rows})
        else:
            listing(form, rows, name="dead", columns=list(rows[0]) if rows else None)
        return
    if not kinds:
        click.echo("no dead letters")
        return
    for kind in kinds:
        click.echo(f"{len(kind.letters)} × {kind.lane}: {printable(kind.error) or 'no error recorded'}")
        for letter in kind.letters[: max(0, limit)]:
            click.echo(f"    {letter.item_id}  {cell(letter.buried_at)}  {printable(letter.subject)}")
        if len(kind.letters) > max(0, limit):
            click.echo(f"    … {len(kind.letters) - max(0, limit)} more: --limit")
        limit -= len(kind.letters)
    say("\nnext: shopfloor dead show ITEM   shopfloor dead replay --error TEXT --yes   shopfloor dead prune ITEM")


@dead.command(epilog=ITEM)
@each_of("item", "ITEM")
@formats()
def show(item: str, form: str) -> None:
    """Show one dead letter: its last moves, attempts and findings.

    \b
    Example:
      shopfloor dead show northwind-labs/tidewater#8
    """
    from console.item_page import print_traceback
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.dead_letters import dead_letter

    with session(Role.READ) as s:
        found = dead_letter(s.conn, s.workspace, item)
    if form == "json":
        document({"dead": found})
        return
    click.echo(f"{found['item_id']}  {printable(found['subject'])}  flow {found['flow']}, lane {found['lane']}")
    click.echo(f"buried {cell(found['buried_at'])} by {printable(found['actor'])}: {printable(found['error'])}")
    for title, line in (
        ("moves", "{at}  {stage} {move}, fence {fence}, {actor}: {reason}"),
        ("attempts", "{ended_at}  {stage} {outcome} {cause}, fence {fence}: {message}"),
        ("findings", "{at}  {stage} {code} {place}: {message}"),
    ):
        if found[title]:
            click.echo(f"\nlast {title}, newest first:")
            for row in found[title]:
                click.echo("  " + line.format(**{name: cell(value) for name, value in row.items()}))
                print_traceback(row.get("traceback", ""))
    say(f"\nnext: shopfloor dead replay {found['item_id']}   shopfloor dead prune {found['item_id']}")


_picks = on_many(
    click.option("--error", help="those whose error holds this text"),
    click.option("--lane", help="those of a lane"),
    click.option("--flow", help="those of a flow"),
    where_option,
    click.option("--all", "every", is_flag=True, help="every dead letter"),
)


@dead.command(epilog=ITEMS)
@_picks
@click.option("--stagger", type=Span(), metavar="DURATION", help="spread them over this long: 10m, 2h")
def replay(stagger: float | None, **options: Any) -> None:
    """Make dead letters ready again in the stage where they failed, with fresh attempts.

    \b
    Example:
      shopfloor dead replay --error "connection refused" --stagger 10m --yes
    """
    from pipeline.operations import steering

    def act(s: Any, items: Sequence[Any]) -> Any:
        return steering.requeue(
            s.conn,
            s.workspace,
            items,
            by=s.actor,
            why=options["why"] or "replayed",
            stagger_seconds=stagger or 0.0,
            dry_run=options["dry_run"],
            dead_only=True,
        )

    _act("dead replay", act, options)


@dead.command(epilog=ITEMS)
@_picks
def prune(**options: Any) -> None:
    """Archive dead letters for good; their orders end dead, their history is kept.

    \b
    Example:
      shopfloor dead prune northwind-labs/tidewater#8 --why "the repository is gone"
    """
    from pipeline.operations import steering

    def act(s: Any, items: Sequence[Any]) -> Any:
        return steering.prune(s.conn, s.workspace, items, by=s.actor, why=options["why"], dry_run=options["dry_run"])

    _act("dead prune", act, options)


def _act(verb: str, act: Callable[[Any, Sequence[Any]], Any], options: dict[str, Any]) -> None:
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.selection import select_by_name

    words = given(options["items"])
    refuse_empty_stdin(options["items"], words)
    said = any(options[name] for name in ("error", "lane", "flow", "where", "every"))
    if bool(words) == said:
        raise BadInput(
            "give ids or a filter, not both: --error, --lane, --flow, --where or --all",
            hint="shopfloor dead list",
        )
    with session(Role.OPERATE, needs="operator") as s:
        found = select_by_name(s.conn, s.workspace, words) if words else _chosen(s, options)
        results = carry_out(s, found, act, options, verb=verb, by_name=bool(words), rings=verb == "dead replay")
    report(results, options["form"], verb=verb)


def _chosen(s: Any, options: dict[str, Any]) -> Any:
    from pipeline.operations.dead_letters import dead_letters
    from pipeline.operations.selection import MAX_SELECTED, Selection

    told = {name: options[name] for name in ("lane", "flow")}
    letters = [letter.item_id for letter in dead_letters(s.conn, s.workspace, error=options["error"], limit=MAX_SELECTED + 1, **told)]
    if not options["where"]:
        say_cut(is_cut=len(letters) > MAX_SELECTED)
        return Selection(letters[:MAX_SELECTED])
    found = choose(s, told | {"state": "dead"}, options["where"])
    matching = set(found.items)
    found.items = [item for item in letters if item in matching]
    return found
