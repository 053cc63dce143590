"""artifact: the bytes that items left behind, shown and verified."""

import json
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from console.acting import each_of
from console.output import cell, document, formats, listing, printable

if TYPE_CHECKING:
    from artifacts.verify import Checked

_MOST_DAMAGED = 100


@click.group()
def artifact() -> None:
    """Artifacts: typed bytes, named by their SHA-256.

    \b
    Example:
      shopfloor artifact verify
    """


@artifact.command()
@each_of("name", "SHA|ID")
@click.option("--item", help="item that it belongs to: makes the search a look-up")
@click.option("--raw", is_flag=True, help="the exact bytes and nothing else")
@formats()
def show(name: str, item: str | None, *, raw: bool, form: str) -> None:
    """Show an artifact as JSON made readable; --raw gives the exact bytes, which hash to its name.

    \b
    Example:
      shopfloor artifact show 3f2a9c01 --raw | sha256sum
    """
    from artifacts.verify import find_artifact, read_artifact
    from console.session import session
    from contracts.lifecycle import Role
    from queues.database import transaction

    with session(Role.READ) as here, transaction(here.conn, here.workspace):
        found = find_artifact(here.conn, name, _item(here, item))
        data = read_artifact(here.conn, here.shop.store, found)
    if raw:
        sys.stdout.buffer.write(data)
        return
    value = _value(data)
    if form == "json":
        document({"artifact": found, "value": value})
        return
    made = f"{found['contract']}@{found['version']}" if found["contract"] else "–"
    click.echo(f"{found['kind']}  {found['sha256'].hex()}  {found['size_bytes']:,} bytes")
    click.echo(f"  of {printable(found['subject'])} (item {found['item_id']}, fence {found['fence']})")
    click.echo(f"  contract {made}, made {cell(found['created_at'])}, id {found['id']}")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    for line in text.split("\n"):
        click.echo(printable(line))


def _item(here: Any, text: str | None) -> UUID | None:
    from queues.lookup import find_item

    return find_item(here.conn, text).item_id if text else None


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "backslashreplace")


@artifact.command()
@click.argument("name", metavar="[SHA|ID]", required=False)
@click.option("--item", help="all artifacts of this item")
@formats()
def verify(name: str | None, item: str | None, form: str) -> None:
    """Hash artifacts again and compare with their names: one, those of an item, or all. Exit 1 when one is damaged.

    \b
    Example:
      shopfloor artifact verify --item northwind-labs/tidewater#8
    """
    from artifacts.verify import find_artifact
    from artifacts.verify import verify as checked
    from console.session import session
    from contracts.lifecycle import Role
    from queues.database import transaction

    damaged: list[Checked] = []
    sound = erased = more = 0
    with session(Role.READ) as here:
        with transaction(here.conn, here.workspace):
            one = find_artifact(here.conn, name, _item(here, item)) if name else None
            item_id = one["item_id"] if one else _item(here, item)
        for check in checked(here.conn, here.shop.store, here.workspace, item_id=item_id):
            if one is not None and check.id != one["id"]:
                continue
            if check.is_erased:
                erased += 1
            elif not check.problem:
                sound += 1
            elif len(damaged) < _MOST_DAMAGED:
                damaged.append(check)
            else:
                more += 1
    rows = [
        {"id": check.id, "item_id": check.item_id, "kind": check.kind, "sha256": check.sha256, "problem": check.problem}
        for check in damaged
    ]
    if form == "json":
        document({"sound": sound, "erased": erased, "damaged": len(rows) + more, "first_damaged": rows})
    else:
        if rows:
            listing(form, rows, name="damaged", columns=("item_id", "kind", "sha256", "problem"))
        click.echo(f"{sound:,} sound, {len(rows) + more:,} damaged, {erased:,} erased")
    if rows:
        raise SystemExit(1)
