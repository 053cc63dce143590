"""demo: the main job on the sample tracker, or on an export of one's own."""

import time
from pathlib import Path
from typing import Any

import click
from console.output import document, formats, printable, progress, progress_done, say

_GROUPS_SHOWN = 6
_IN_DEMO = "SHOPFLOOR_WORKSPACE=demo"
"""Before a command: in the demo's workspace."""
SAMPLE = Path(__file__).parents[1] / "samples" / "tracker.jsonl"


@click.command()
@click.option(
    "--input",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="an export: GitHub's REST shape or what gh prints; JSONL, JSON or .gz",
)
@click.option("--complete", is_flag=True, help="also approve as the demo's reviewer, apply to a local tracker folder, and archive")
@click.option("--reset", is_flag=True, help="stop everything and remove what shopfloor keeps in its data folder; nothing else")
@click.option("--yes", is_flag=True, help="for --reset, without being asked")
@click.option(
    "--timeout", default=600, show_default=True, type=click.IntRange(1), metavar="SECONDS", help="give up when work still moves after this"
)
@formats()
def demo(file: Path | None, complete: bool, reset: bool, yes: bool, timeout: int, form: str) -> None:
    """Take in a tracker, review every open item, and end at the inbox; in a workspace named demo, apart from all others.

    \b
    Example:
      shopfloor demo --input issues.jsonl.gz
    """
    if reset:
        _reset(form, yes=yes)
        return
    from contracts.lifecycle import Role
    from pipeline import demonstration
    from pipeline.crew.run import start_background
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop
    from pipeline.startup.settings import load
    from pipeline.startup.setup import set_up

    started = time.monotonic()
    source = file or SAMPLE
    _refuse_unreadable(source)
    progress("starting PostgreSQL and Valkey")
    shop = open_shop(load(workspace=demonstration.WORKSPACE, floor=demonstration.FLOOR))
    logs.configure("error")
    set_up(shop)
    start_background(shop)
    with shop.connect(Role.READ, name="demo") as conn:
        workspace = shop.workspace_id(conn)
    progress("filling the local tracker")
    report = demonstration.take_export(shop, source, _show_intake)
    done = demonstration.Demonstration(report)
    demonstration.wait_for_quiet(shop, workspace, _show_moving, seconds=timeout)
    if complete:
        demonstration.approve_all(shop, workspace, done)
        demonstration.wait_for_quiet(shop, workspace, _show_moving, seconds=timeout)
    demonstration.account(shop, workspace, done)
    done.unsupported, done.export_command = demonstration.unsupported(source)
    done.seconds = time.monotonic() - started
    progress_done()
    if form == "json":
        document(demonstration.as_document(done))
    else:
        _tell(shop, workspace, done)


def _refuse_unreadable(path: Path) -> None:
    """Look at the file before anything is started: a wrong name should cost no servers."""
    from pipeline.intake.sources import open_source

    with open_source(str(path)):
        pass


def _show_intake(report: Any, source: Any) -> None:
    share = f" {100 * source.bytes_read / source.total_bytes:.0f}%" if source.total_bytes else ""
    progress(f"intake{share} · {report.rows} rows")


def _show_moving(moving: int) -> None:
    progress(f"in progress · {moving} items move")


def _reset(form: str, *, yes: bool) -> None:
    from contracts.errors import Unavailable
    from pipeline.demonstration import reset
    from pipeline.startup.compose import open_shop, refuse_foreign_folder
    from pipeline.startup.settings import load
    from queues.embedded import default_data_dir, stop

    settings = load()
    refuse_foreign_folder(settings)
    _confirm_reset(settings.data_dir or default_data_dir(), yes=yes)
    try:
        shop = open_shop(settings, start=False)
    except Unavailable:
        shop = None
    folder = settings.data_dir or default_data_dir()
    removed = reset(folder, shop, stop)
    if form == "json":
        document({"removed": removed, "data_dir": folder})
    else:
        click.echo(f"removed {folder}" if removed else f"nothing of shopfloor's is in {folder}")


def _confirm_reset(folder: Path, *, yes: bool) -> None:
    """Ask before everything in a data folder is removed: it may hold more than the demo. Raises BadInput where nobody can answer."""
    import sys

    from contracts.errors import BadInput

    if yes or not folder.exists():
        return
    if not sys.stdin.isatty():
        raise BadInput(f"--reset would remove all that shopfloor keeps in {folder}: say --yes", hint="nothing was done", code="input.yes")
    click.confirm(f"Remove all that shopfloor keeps in {folder}: database, artifacts, the local tracker?", abort=True)


def _tell_board_and_inbox(shop: Any, workspace: Any) -> None:
    from console.commands.status import say_lanes
    from contracts.lifecycle import Role
    from pipeline.review.inbox import group_proposals, read_inbox
    from queues.board.lanes import read_board

    with shop.connect(Role.READ, name="demo") as conn:
        lanes, groups = read_board(conn, workspace).lanes, group_proposals(read_inbox(conn, shop.store, workspace))
    click.echo()
    click.secho("Board", bold=True)
    say_lanes(lanes)
    click.secho("Inbox", bold=True)
    for group in groups[:_GROUPS_SHOWN]:
        best = group[0]
        click.echo(f"  {len(group):4}  {best.action} as {best.finding}, such as {printable(best.target)}  {printable(best.title)[:60]}")
    if len(groups) > _GROUPS_SHOWN:
        say(f"        and {len(groups) - _GROUPS_SHOWN} more kinds: {_IN_DEMO} shopfloor review inbox")
    if not groups:
        click.echo("  nothing waits for a reviewer")


def _tell(shop: Any, workspace: Any, done: Any) -> None:
    """End with the account, the board, the inbox, and what to type next."""
    report = done.report
    click.secho(f"{report.rows} rows in {done.seconds:.1f} s, every one accounted for", bold=True)
    click.echo(f"  {report.accepted} accepted ({report.context} as context) · {report.rejected} rejected · {report.duplicate} known before")
    click.echo("  orders: " + (" · ".join(f"{count} {state.replace('_', ' ')}" for state, count in done.ends.items()) or "none"))
    for bad in report.first_rejects:
        click.echo(f"  line {bad.line}, {bad.field or 'row'}: {printable(bad.message)} [{bad.code}]")
    _tell_board_and_inbox(shop, workspace)
    click.echo("  proposals: " + (" · ".join(f"{count} {state.replace('_', ' ')}" for state, count in done.proposals.items()) or "none"))
    if applied := done.proposals.get("applied"):
        click.echo(f"  {applied} were approved by demo-reviewer and applied to {shop.demo_tracker_dir}")
    if done.refused:
        click.echo(f"  {len(done.refused)} could not be approved, the first because {printable(done.refused[0])}")
    if done.unsupported:
        click.echo()
        click.secho("What this export cannot support", bold=True)
        for finding, missing in done.unsupported:
            click.echo(f"  {finding}: no field {missing}")
        click.echo(f"  an export that can: {done.export_command}")
    click.echo()
    click.echo("The service actor `intake` submitted these, so that you may review them: nobody approves what they submitted.")
    click.echo()
    click.secho("Next", bold=True)
    say(f"  {_IN_DEMO} shopfloor status          # the board")
    say(f"  {_IN_DEMO} shopfloor review inbox    # what waits for you")
    say(f"  {_IN_DEMO} shopfloor review next     # see exactly what will run, and decide")
    say("  shopfloor down                                     # stop everything")
