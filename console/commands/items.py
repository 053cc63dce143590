"""items, show, why, history: what is in progress, and everything about one of it."""

from typing import Any
from uuid import UUID

import click
from console.acting import each_of
from console.choosing import say_scanned, where_option
from console.output import document, formats, listing

COLUMNS = ("id", "subject", "flow", "cell", "lane", "stage", "state", "reason", "since", "waiting_on", "due_at")
_SHOWN = ("id", "subject", "lane", "state", "reason", "waiting_on", "since")
_ENDED = ("id", "subject", "cell", "stage", "state", "finding", "since")


@click.command()
@click.option("--lane", help="such as cell.issue_review or apply.tracker")
@click.option("--stage", help="intake, route, workcell, artifact, qa, rework, apply, archive")
@click.option("--state", help="ready, leased, waiting, dead; done, refused, cancelled, superseded have ended")
@click.option("--reason", help="why it is not moving: approval, human, paused, backoff, slot, …")
@click.option("--flow", help="flow of the floor")
@click.option("--order", help="order id or subject key")
@click.option("--batch", help="batch id, the beginning of one, or latest")
@click.option("--archived", is_flag=True, help="what has ended, newest first")
@where_option
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--cursor", type=click.UUID, help="go on after this id, as the page before said")
@formats(rows=True)
def items(form: str, limit: int, cursor: UUID | None, where: str | None, **filters: Any) -> None:
    """List items by where they stand, why they wait, or what is in them.

    \b
    Example:
      shopfloor items --reason human
      shopfloor items --where "item.title.contains('crash')" --json
    """
    from console.session import session
    from contracts.lifecycle import Role
    from queues.database import transaction
    from queues.lookup import filter_of, list_items

    with session(Role.READ) as here:
        with transaction(here.conn, here.workspace):
            wanted = filter_of(here.conn, filters)
        if where is not None:
            from pipeline.operations.payloads import compile_rule, find_matching

            found = find_matching(here.conn, here.shop.store, here.workspace, wanted, compile_rule(where), limit=limit, after=cursor)
            rows, following = found.items, found.next_cursor
            say_scanned(found.scan)
        else:
            with transaction(here.conn, here.workspace):
                rows = list_items(here.conn, wanted, limit=limit + 1, after=cursor)
            following = rows[limit - 1]["id"] if len(rows) > limit else None
            rows = rows[:limit]
    _print(rows, form, following, archived=wanted.archived)


def _print(rows: list[dict[str, Any]], form: str, following: UUID | None, *, archived: bool) -> None:
    names = (*COLUMNS, "finding") if archived else COLUMNS
    rows = [{name: row.get(name) for name in names} for row in rows]
    if form == "json":
        document({"items": rows, "next_cursor": following})
        return
    columns = names if form == "csv" else _ENDED if archived else _SHOWN
    listing(form, rows, name="items", columns=columns, empty="no items match")
    if following:
        click.echo(f"there are more: --cursor {following}", err=True)


@click.command()
@each_of("item", "ITEM")
@formats()
def show(item: str, form: str) -> None:
    """Show an item with all that it left behind: by item or order id, or by subject key.

    \b
    Example:
      shopfloor show northwind-labs/tidewater#8
    """
    import json

    from artifacts.blobs import read_bodies
    from console.session import session
    from contracts.lifecycle import Role
    from queues.board.dossier import read_dossier
    from queues.board.why import why as explained
    from queues.database import transaction
    from queues.lookup import find_item

    with session(Role.READ) as here, transaction(here.conn, here.workspace):
        found = find_item(here.conn, item)
        dossier = read_dossier(here.conn, found)
        key = (found.item_id, dossier["order"]["payload_sha256"])
        body = read_bodies(here.conn, here.shop.store, [key]).get(key)
        answer = explained(here.conn, found)
    dossier |= {"payload": json.loads(body) if body is not None else None, "why": answer.as_dict()}
    if form == "json":
        document(dossier)
    else:
        from console.item_page import tell

        tell(dossier)


@click.command()
@each_of("item", "ITEM")
@formats()
def why(item: str, form: str) -> None:
    """Say what an item waits for, since when, who holds it, and what happens next.

    \b
    Example:
      shopfloor why northwind-labs/tidewater#8
    """
    from console.session import session
    from contracts.lifecycle import Role
    from queues.board.why import why as explained
    from queues.database import transaction
    from queues.lookup import find_item

    with session(Role.READ) as here, transaction(here.conn, here.workspace):
        answer = explained(here.conn, find_item(here.conn, item)).as_dict()
    if form == "json":
        document(answer)
    else:
        from console.item_page import tell_why

        tell_why(answer)


@click.command()
@each_of("item", "ITEM")
@click.option("--limit", default=500, show_default=True, type=click.IntRange(1, 10_000))
@formats(rows=True)
def history(item: str, limit: int, form: str) -> None:
    """List every move of an item, with fence, actor, reason, and the time since the move before.

    \b
    Example:
      shopfloor history northwind-labs/tidewater#8
    """
    from console.session import session
    from contracts.lifecycle import Role
    from queues.board.dossier import history as moves_of
    from queues.database import transaction
    from queues.lookup import find_item

    with session(Role.READ) as here, transaction(here.conn, here.workspace):
        found = find_item(here.conn, item)
        moves = moves_of(here.conn, found.item_id, limit=limit)
    if form == "json":
        document({"item_id": found.item_id, "subject": found.subject_key, "moves": moves})
    elif form == "text":
        from console.item_page import move_line

        listing(form, [move_line(move) for move in moves], name="moves")
    else:
        listing(form, moves, name="moves")
