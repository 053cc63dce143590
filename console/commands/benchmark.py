"""benchmark: the reference work on a database of its own."""

import click
from console.output import document, formats


@click.group()
def benchmark() -> None:
    """Measure the road on a database of its own; the factory's work is not touched.

    \b
    Example:
      shopfloor benchmark road --items 5000
    """


@benchmark.command()
@click.option("--items", default=10_000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="propose worker processes; one apply worker comes on top"
)
@click.option("--mode", default="strict", show_default=True, type=click.Choice(["strict", "fused"]))
@click.option("--batch", default=200, show_default=True, type=click.IntRange(1, 1000))
@click.option("--workspaces", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--singles", default=100, show_default=True, type=click.IntRange(0, 10_000), help="items sent alone through the idle line")
@click.option("--idle-seconds", default=10.0, show_default=True, type=click.FloatRange(0, 600))
@formats()
def road(items: int, workers: int, mode: str, batch: int, workspaces: int, singles: int, idle_seconds: float, form: str) -> None:
    """Take N items of the reference work from intake to archive.

    \b
    Example:
      shopfloor benchmark road --items 5000 --workers 2 --mode strict --json
    """
    from console.benchmarks.road import road as run

    figures = run(items=items, workers=workers, mode=mode, batch=batch, workspaces=workspaces, singles=singles, idle_seconds=idle_seconds)
    if form == "json":
        document(figures)
        return
    for name, value in figures.items():
        click.echo(f"{name:18} {'?' if value is None else value}")


@benchmark.command()
@click.option(
    "--archived",
    "sizes",
    multiple=True,
    default=(10_000, 1_000_000),
    show_default=True,
    type=click.IntRange(0, 20_000_000),
    help="archive sizes to measure at",
)
@click.option(
    "--items", default=3000, show_default=True, type=click.IntRange(1, 100_000), help="items taken from intake to archive at each size"
)
@formats()
def scale(sizes: tuple[int, ...], items: int, form: str) -> None:
    """Measure claim, board and road with a growing archive.

    \b
    Example:
      shopfloor benchmark scale --archived 10000 --archived 100000 --json
    """
    from console.benchmarks.scale import scale as run
    from console.output import listing

    listing(form, run(sizes=list(sizes), items=items), name="sizes")
