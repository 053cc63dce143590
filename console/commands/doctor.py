"""doctor: can this factory work, and does everything hold that must."""

from collections import Counter
from typing import TYPE_CHECKING

import click
from console.output import age, as_typed, document, formats, listing, printable, table

if TYPE_CHECKING:
    from pipeline.doctor.invariants import Checked


@click.command()
@click.option("--strict", is_flag=True, help="check every invariant over one snapshot of the database; one line per violation")
@click.option("--failpoints", is_flag=True, help="list the places where SHOPFLOOR_FAIL may kill, hang or raise, for tests")
@click.option("--most", type=click.IntRange(1, 10_000), default=20, show_default=True, help="violations shown for each invariant")
@formats()
def doctor(strict: bool, failpoints: bool, most: int, form: str) -> None:
    """Check services, logins, workers, disk and clocks; with --strict, every invariant.

    Ends with 0 when all is well, 1 when something is wrong, 6 when a service cannot be reached.

    \b
    Example:
      shopfloor doctor
      shopfloor doctor --strict
    """
    if failpoints:
        from pipeline.failpoints import POINTS

        listing(form, [{"point": point, "where": where} for point, where in POINTS.items()], name="failpoints")
        return
    raise SystemExit(_strict(form, most) if strict else _examine(form))


def _examine(form: str) -> int:
    from contracts.errors import Unavailable
    from pipeline.doctor.health import examine, failed, worst
    from pipeline.startup.compose import open_shop

    try:
        signs = list(examine(open_shop(start=False)))
    except Unavailable as error:
        signs = [failed("services", error)]
    if form == "json":
        document({"healthy": not worst(signs), "checks": [sign._asdict() for sign in signs]})
    else:
        rows = [{"check": sign.name, "is": sign.status, "seen": sign.said, "next": as_typed(sign.hint)} for sign in signs]
        table(rows, ["check", "is", "seen", "next"])
    return worst(signs)


def _strict(form: str, most: int) -> int:
    import time
    from contextlib import ExitStack

    from contracts.errors import ShopfloorError
    from contracts.lifecycle import Role
    from pipeline.doctor.invariants import check_all
    from pipeline.startup.compose import open_shop
    from queues.database import connect

    shop, started = open_shop(start=False), time.monotonic()
    with ExitStack() as held:
        conn = held.enter_context(shop.connect(Role.AUDIT, name="doctor"))
        try:
            monitor = held.enter_context(connect(shop.migration_url(), name="doctor"))
        except ShopfloorError:
            monitor = None  # then sessions of others may be out of sight, and the result says so
        checked = check_all(conn, shop.store, monitor=monitor, most=most)
    seconds = time.monotonic() - started
    _tell(form, checked, seconds)
    return int(any(one.status == "violated" for one in checked))


def _tell(form: str, checked: "tuple[Checked, ...]", seconds: float) -> None:
    from pipeline.doctor.invariants import NOT_BUILT

    if form == "json":
        fields = ("number", "title", "status", "total", "violations", "note")
        rows = [{name: getattr(one, name) for name in fields} for one in checked]
        document({"holds": all(one.status != "violated" for one in checked), "seconds": round(seconds, 3), "invariants": rows})
        return
    for one in checked:
        for said in one.violations:
            click.echo(f"invariant {one.number}: {printable(said)}")
        if one.total > len(one.violations):
            click.echo(f"invariant {one.number}: and {one.total - len(one.violations)} more; see --most and --json")
        if one.status == "vacuous":
            unbuilt = " (not built)" if one.number in NOT_BUILT else ""
            click.echo(f"not checked{unbuilt}: {one.number}: {one.note}")
    counts = Counter(one.status for one in checked)
    said = f"{counts['ok']} hold, {counts['violated']} violated, {counts['vacuous']} not checked"
    click.echo(f"{len(checked)} invariants in {age(seconds)}: {said}", err=True)
