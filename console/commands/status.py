"""status: the board of a factory, in words, as JSON, or as an exit code for cron."""

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from console.output import age, as_typed, document, formats, printable, say, terminal_width

if TYPE_CHECKING:
    from pipeline.startup.compose import Shop
    from queues.board.lanes import Board, Lane


@click.command()
@click.option("--check", is_flag=True, help="exit 1 when something is stalled, unserved or dead; print only that")
@formats()
def status(check: bool, form: str) -> None:
    """Show every lane: what is ready, active, waiting and stalled, and what to type.

    WAIT is for a person or other work; HELD is paused, not due yet, or over a limit; stalled (!) is work that could
    move and does not. NET is what the last 5 minutes added to a lane, `even` where it keeps up. A ? is not known,
    which is not zero.

    \b
    Example:
      shopfloor status
      shopfloor status --check || mail -s 'shopfloor: a lane is stalled' ops@example.org
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.crew.crew_file import report
    from queues.board.lanes import read_board

    with session(Role.READ) as here:
        board = read_board(here.conn, here.workspace)
        broker = _broker(here.shop)
        name = here.shop.settings.workspace
        crew = report(here.shop)
    attention = board.needs_attention or broker in _BROKER_LINES or bool(crew.problems)
    if form == "json":
        document(
            {"workspace": name, "broker": broker, "unseparated": crew.unseparated, "problems": crew.problems}
            | board.as_dict()
            | {"ok": not attention}
        )
    else:
        _say(board, name, broker, brief=check)
        for line in crew.problems:
            say(_paint(f"  crew     {printable(line)}{'' if crew.pid else '  →  shopfloor up'}", "red"))
        for gap in crew.unseparated if not check else ():
            click.echo(_paint(f"  crew     not separated: {printable(gap)}", "yellow"))
    if check and attention:
        raise SystemExit(1)


def _broker(shop: "Shop") -> str | None:
    """Return whether the broker is `up`: it takes a ring now. `refuses`: it answers and does not. None where that cannot be seen from here."""
    from contracts.errors import ShopfloorError

    if shop.settings.broker_url is None:
        if shop.services is None:
            return None
        # Asked without its client: loading that takes longer than the board.
        from queues.embedded import valkey
        from queues.embedded.place import Place

        place = Place.at(shop.data_dir)
        return "up" if valkey.takes_writes(place) else "refuses" if valkey.is_answering(place) else "down"
    doorbell = shop.doorbell()
    try:
        doorbell.check()
    except ShopfloorError:
        return "down"
    return "up" if doorbell.takes_rings() else "refuses"


_BROKER_LINES = {
    "down": "down: work pauses until it answers; intake and review go on  →  shopfloor up",
    "refuses": "it answers and takes no rings: work pauses until it has memory again; intake and review go on  →  shopfloor doctor",
}


def _say(board: "Board", workspace: str, broker: str | None, *, brief: bool) -> None:
    if brief:
        _say_attention(board, broker)
        return
    workers = f"{len(board.workers)} worker{'' if len(board.workers) == 1 else 's'}"
    sweeper = board.sweeper or "?"
    head = f"workspace {workspace}  ·  {workers}  ·  sweeper {sweeper}  ·  broker {broker or '?'}"
    at = board.at.astimezone()
    dated = f"{head}  ·  {at:%Y-%m-%d %H:%M:%S%z}"
    click.echo(dated if len(dated) <= terminal_width() else f"{head}  ·  {at:%H:%M:%S}")
    click.echo()
    say_lanes(board.lanes)
    for one in board.waiting:
        oldest = f"oldest {age(one.oldest_seconds)}"
        say(f"  waiting  {one.items:>7,}  {one.reason:<16}{oldest:<14}shopfloor items --reason {one.reason}")
    for pause in board.pauses:
        until = f" until {pause['until'].astimezone():%Y-%m-%d %H:%M%z}" if pause["until"] else ""
        why = printable(f"{pause['scope']} by {pause['actor']}{until}: {pause['why']}")
        click.echo(_paint(f"  paused   {why}  →  {as_typed('shopfloor resume')} {shlex.quote(printable(pause['scope']))}", "yellow"))
    _say_attention(board, broker)
    _say_totals(board.totals)


_COLUMNS = {
    "READY": 8, "ACTIVE": 8, "SILENT": 7, "WAIT": 7, "HELD": 7, "DEAD": 6, "OLDEST": 8, "DONE/5m": 9, "FAIL": 6, "NET": 9,
    "WORK": 6,
}  # fmt: skip
"""Heads of the columns with their widths; with the lane's name they fit into 100 characters."""
_DROPPED = ("NET", "FAIL", "SILENT", "HELD")
"""Left out, in this order, where a terminal is narrower; `status --json` has them all."""


def say_lanes(lanes: "list[Lane]") -> None:
    """Print a line for each lane, stalled ones marked."""
    if not lanes:
        say("  no lane has work or workers yet: shopfloor up, then shopfloor intake FILE")
        return
    width = max(17, *(len(lane.lane) for lane in lanes))
    columns = dict(_COLUMNS)
    for name in _DROPPED:
        if 2 + width + sum(columns.values()) > terminal_width():
            del columns[name]
    heads = "".join(f"{name:>{size}}" for name, size in columns.items())
    click.echo(_paint(f"  {'LANE':<{width}}{heads}", "bright_black"))
    for lane in lanes:
        failed = "–" if lane.failed_share is None else f"{100 * lane.failed_share:.0f}%"
        net = "even" if lane.net_flow is None else f"{lane.net_flow:+,}"
        cells = (
            lane.ready, lane.active, lane.silent, lane.waiting, lane.paused + lane.backoff + lane.limited, lane.dead,
            age(lane.oldest_ready_seconds), lane.finished, failed, net, lane.workers,
        )  # fmt: skip
        shown = {name: f"{part:,}" if isinstance(part, int) else part for name, part in zip(_COLUMNS, cells, strict=True)}
        row = "".join(f"{shown[name]:>{size}}" for name, size in columns.items())
        line = f"{'!' if lane.stalled else ' '} {lane.lane:<{width}}{row}"
        click.echo(_paint(line, "red") if lane.stalled else line)
    click.echo()


def _say_attention(board: "Board", broker: str | None) -> None:
    for lane in board.lanes:
        if lane.stalled:
            say(_paint(f"  stalled  {lane.lane}: {lane.stalled}  →  {lane.remedy}", "red"))
    if board.dead:
        oldest = f", oldest {age(board.oldest_dead_seconds)}"
        letters = f"{board.dead:,} dead letter{'' if board.dead == 1 else 's'}{oldest}"
        say(_paint(f"  dead     {letters}  →  shopfloor dead list", "red"))
    from queues.board.waits import how_to_complete

    for batch in board.unread:
        gone = f"{printable(batch['source'])} has had no reader for {age(batch['seconds'])}, {batch['rows_read']:,} rows are in"
        say(_paint(f"  intake   {gone}  →  {how_to_complete(is_stream=batch['is_stream'])}", "red"))
    if board.is_abandoned and not any(lane.stalled for lane in board.lanes):
        say(_paint("  workers  no worker runs: approvals will not be applied  →  shopfloor up", "red"))
    if board.sweeper == "late":
        say(_paint("  sweeper  no sweeper runs: expired leases are not recovered  →  shopfloor sweeper", "red"))
    if broker in _BROKER_LINES:
        say(_paint(f"  broker   {_BROKER_LINES[broker]}", "red"))


def _say_totals(totals: dict[str, Any]) -> None:
    reading = f", {totals['reading']} being read" if totals["reading"] else ""
    plural = "" if totals["batches"] == 1 else "es"
    click.echo(
        f"  totals   {totals['batches']:,} batch{plural}{reading}: {totals['rows']:,} rows = {totals['accepted']:,} accepted"
        f" + {totals['rejected']:,} rejected + {totals['duplicate']:,} duplicate"
    )
    click.echo(f"           {totals['context']:,} were context; {totals['in_queue']:,} items in progress, {totals['ended']:,} ended")


def _paint(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
