"""up, down, worker, sweeper: the processes of a factory."""

from typing import Any

import click
from console.output import document, formats


@click.command()
@click.option("--foreground", is_flag=True, help="stay, and stop everything on Ctrl-C")
@formats()
def up(foreground: bool, form: str) -> None:
    """Start the services, the workers, the apply worker and the sweeper.

    \b
    Example:
      shopfloor up
    """
    from pipeline.crew import crew, crew_file
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop
    from pipeline.startup.setup import set_up

    shop = open_shop()
    logs.configure(shop.settings.log_level)
    set_up(shop)
    shop.doorbell().check()
    if foreground:
        raise SystemExit(crew.run_foreground(shop))
    pid = crew.start_background(shop)
    gaps = crew_file.trouble(shop).unseparated
    if form == "json":
        document({"pid": pid, "data_dir": shop.data_dir, "posts": list(crew.roster(shop)), "unseparated": gaps})
        return
    click.echo(f"up: {', '.join(crew.roster(shop))} (crew {pid}, logs in {shop.data_dir / 'log'})")
    for gap in gaps:
        click.secho(f"not separated: {gap}", fg="yellow")
    click.echo("next: shopfloor status   ·   shopfloor intake FILE --flow issue-sweep   ·   shopfloor down")


@click.command()
@click.option("--workers-only", is_flag=True, help="leave the database and the broker running")
@formats()
def down(workers_only: bool, form: str) -> None:
    """Drain the workers, then stop the embedded services.

    \b
    Example:
      shopfloor down
    """
    from pipeline.crew import crew
    from pipeline.startup.compose import Shop
    from pipeline.startup.settings import load
    from queues.embedded import inspect, stop

    # By what holds its lock and by what runs in its folder: a server that is gone keeps nobody from stopping the rest.
    shop = Shop(load(), None)
    did: dict[str, Any] = {"crew": crew.stop_background(shop), "services": False}
    if not workers_only and (shop.settings.is_embedded or shop.settings.broker_url is None):
        did["services"] = any(server.pid is not None for server in inspect(shop.data_dir).servers)
        stop(shop.data_dir)
    if form == "json":
        document(did)
    else:
        click.echo("down" if any(did.values()) else "nothing was running")


@click.command()
@click.option("--lanes", default="propose", show_default=True, help="propose, apply, or lanes parted by commas")
def worker(lanes: str) -> None:
    """Serve lanes in this process: all but apply, those of apply, or the ones named.

    \b
    Example:
      shopfloor worker --lanes route,cell.issue_review
    """
    from pipeline.crew.staffing import staff
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop

    shop = open_shop(start=False)
    logs.configure(shop.settings.log_level)
    raise SystemExit(staff(shop, lanes).run())


@click.command()
@click.option("--once", is_flag=True, help="one round, its counts printed, then end")
@formats()
def sweeper(once: bool, form: str) -> None:
    """Bring back what died, ring what is due, end what expired. Any number may run.

    \b
    Example:
      shopfloor sweeper --once --json
    """
    import signal
    import threading

    from contracts.lifecycle import Role
    from pipeline.startup import logs
    from pipeline.startup.compose import open_shop
    from pipeline.sweeper.process import Sweeper, sweep

    shop = open_shop(start=False)
    logs.configure(shop.settings.log_level)
    if once:
        with shop.connect(Role.SWEEP, name="sweeper") as conn:
            did = sweep(conn, shop.doorbell())
        document(did) if form == "json" else click.echo(", ".join(f"{what} {count}" for what, count in did.items()))
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    raise SystemExit(Sweeper(shop).run(stop))
