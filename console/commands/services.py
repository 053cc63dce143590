"""up, down, worker, sweeper: the processes of a factory."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from console.output import document, formats, printable, say

if TYPE_CHECKING:
    from pipeline.crew.crew_file import CrewReport
    from pipeline.startup.compose import Shop
    from pipeline.startup.setup import FloorChoice

_PARTLY_DONE = 7


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), help="propose workers to keep, up or down; default: as many as run, or 2")
@click.option("--floor", type=click.Path(path_type=Path), help="floor file to put in force; default: the one in force")
@click.option("--foreground", is_flag=True, help="stay, and stop what was started on Ctrl-C")
@click.option("--in-background", is_flag=True, hidden=True, help="be the crew that `up` has started")
@formats()
def up(workers: int | None, floor: Path | None, foreground: bool, in_background: bool, form: str) -> None:
    """Start the services, the workers, the apply worker and the sweeper, and wait until they are ready.

    What runs already is kept. The floor in force is kept, too, unless --floor or SHOPFLOOR_FLOOR names a file; the first
    start takes the nearest floor.yaml, or the built-in floor.

    \b
    Example:
      shopfloor up --workers 4
    """
    from pipeline.crew import run
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop
    from pipeline.startup.settings import load
    from pipeline.startup.setup import set_up

    settings = load(**({"floor": floor} if floor else {}))
    workers = workers or settings.workers
    if in_background:
        shop = open_shop(settings)
        logs.configure(settings.log_level)
        raise SystemExit(run.run_foreground(shop, workers or run.DEFAULT_WORKERS))
    if foreground:
        raise SystemExit(_stay(settings, workers))
    shop = open_shop(settings)
    logs.configure(settings.log_level)
    choice = set_up(shop)
    _check_broker(shop)
    crew = run.start_background(shop, workers)
    late = [one["name"] for one in crew.members if one["state"] != "ready"]
    if form == "json":
        document(
            {
                "pid": crew.pid,
                "data_dir": shop.data_dir,
                "posts": [one["name"] for one in crew.members],
                "workers": crew.workers,
                "not_ready": late,
                "problems": crew.problems,
                "unseparated": crew.unseparated,
                "floor": {"id": choice.in_force.id, "source": choice.source, "changed": choice.is_new, "ignored": choice.ignored},
            }
        )
    else:
        _say_floor(choice)
        _say_crew(shop, crew, late)
    if late or crew.pid is None:
        raise SystemExit(_PARTLY_DONE)


def _check_broker(shop: "Shop") -> None:
    doorbell = shop.doorbell()
    doorbell.check()
    doorbell.echo()


def _say_crew(shop: "Shop", crew: "CrewReport", late: list[str]) -> None:
    ready = [one["name"] for one in crew.members if one["name"] not in late]
    click.echo(f"up: {', '.join(ready) or 'nothing'} (crew {crew.pid}, logs in {shop.data_dir / 'log'})")
    for name in late:
        click.secho(f"not ready: {name}; see the end of {shop.data_dir / 'log' / name}.log", fg="red")
    for line in crew.problems:
        click.secho(printable(line), fg="red")
    for gap in crew.unseparated:
        click.secho(f"not separated: {gap}", fg="yellow")
    say("next: shopfloor status   ·   shopfloor intake FILE --flow issue-sweep   ·   shopfloor down")


def _say_floor(choice: "FloorChoice") -> None:
    """Print which floor is in force when that is new, what has changed, and a file at hand that is not."""
    from console.commands.floor import changes_between

    if choice.is_new:
        click.echo(f"floor: {printable(choice.source)}{', in place of the one before' if choice.before else ''}")
        if choice.before:
            for line in changes_between(choice.before, choice.in_force.floor, choice.source):
                click.echo(printable(line))
    if choice.ignored:
        click.secho(f"floor: {printable(str(choice.ignored))} differs from the floor in force, which was kept", fg="yellow")
        say(f"  to put it in force: shopfloor floor apply {shlex.quote(printable(str(choice.ignored)))}")


def _stay(settings: Any, workers: int | None) -> int:
    """Run the crew in this process until Ctrl-C, then stop what this call has started."""
    from pipeline.crew import run
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop, refuse_foreign_folder
    from pipeline.startup.setup import set_up
    from queues.embedded import default_data_dir, inspect, stop

    refuse_foreign_folder(settings)
    folder = settings.data_dir or default_data_dir()
    is_serving = settings.is_embedded or settings.broker_url is None
    had_services = is_serving and any(server.pid is not None for server in inspect(folder).servers)
    logs.configure("error")  # what happens is said in words
    try:
        shop = open_shop(settings)
        _say_floor(set_up(shop))
        _check_broker(shop)
        click.echo(f"starting the workers (logs in {shop.data_dir / 'log'}); Ctrl-C stops them")
        return run.run_foreground(shop, workers or run.DEFAULT_WORKERS, say=click.echo)
    finally:
        if had_services:
            say("PostgreSQL and Valkey ran before and were left running; to stop them: shopfloor down")
        elif is_serving:
            stop(folder)
            click.echo("PostgreSQL and Valkey have stopped")


@click.command()
@click.option("--workers-only", is_flag=True, help="leave the database and the broker running")
@formats()
def down(workers_only: bool, form: str) -> None:
    """Drain the workers, then stop the embedded services.

    \b
    Example:
      shopfloor down
    """
    from pipeline.crew import run
    from pipeline.startup.compose import Shop, refuse_foreign_folder
    from pipeline.startup.settings import load
    from queues.embedded import inspect, stop

    settings = load()
    refuse_foreign_folder(settings)
    # By what holds its lock and by what runs in its folder: a server that is gone keeps nobody from stopping the rest.
    shop = Shop(settings, None)
    did: dict[str, Any] = {"crew": run.stop_background(shop), "services": False}
    if not workers_only and (settings.is_embedded or settings.broker_url is None):
        did["services"] = any(server.pid is not None for server in inspect(shop.data_dir).servers)
        stop(shop.data_dir)
    if form == "json":
        document(did)
    else:
        click.echo("down" if any(did.values()) else "nothing was running")


@click.command()
@click.option("--lanes", default="propose", show_default=True, help="propose, apply, or lanes separated by commas")
def worker(lanes: str) -> None:
    """Serve lanes in this process: all but apply, those of apply, or the ones named.

    \b
    Example:
      shopfloor worker --lanes route,cell.issue_review
    """
    from pipeline.crew.liveness import report_liveness
    from pipeline.crew.staffing import staff
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop

    ready = report_liveness()
    shop = open_shop(start=False, acts=True)
    logs.configure(shop.settings.log_level)
    raise SystemExit(staff(shop, lanes).run(on_ready=ready))


@click.command()
@click.option("--once", is_flag=True, help="one round, its counts printed, then end")
@formats()
def sweeper(once: bool, form: str) -> None:
    """Recover expired leases, ring lanes with due work, end what expired. Any number may run.

    \b
    Example:
      shopfloor sweeper --once --json
    """
    import signal

    from contracts.lifecycle import Role
    from pipeline.crew.liveness import report_liveness
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop
    from pipeline.stopping import StopRequest
    from pipeline.sweeper.process import Sweeper, sweep

    ready = report_liveness()
    shop = open_shop(start=False, acts=True)
    logs.configure(shop.settings.log_level)
    if once:
        with shop.connect(Role.SWEEP, name="sweeper") as conn:
            did = sweep(conn, shop.doorbell())
        document(did) if form == "json" else click.echo(", ".join(f"{what} {count}" for what, count in did.items()))
        return
    stop = StopRequest()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    raise SystemExit(Sweeper(shop).run(stop, on_ready=ready))
