"""intake: rows in, every one accounted for."""

from typing import Any

import click
from console.acting import Span
from console.output import document, formats, printable, progress, progress_done, say


@click.command()
@click.argument("file")
@click.option("--flow", help="flow of the floor; may be left out when it has one")
@click.option("--format", "kind", type=click.Choice(["jsonl", "json", "csv", "tsv"]), help="unset: by name and first bytes")
@click.option("--cast", "casts", multiple=True, metavar="COLUMN=TYPE", help="type of a CSV column: int, number, bool, json, timestamp")
@click.option("--dry-run", is_flag=True, help="read and validate everything, write nothing but the rejects file")
@click.option("--strict", is_flag=True, help="one bad row and nothing is taken in (exit 2)")
@click.option("--rejects", "rejects_path", metavar="FILE", help="write rejected rows here, a JSON line each")
@click.option("--max-rejects", metavar="N|P%", help="stop when more rows are rejected; the batch fails, rows before stand (exit 2)")
@click.option("--expect-rows", metavar="N", type=click.IntRange(0), help="refuse a file that holds another number of rows (exit 2)")
@click.option("--as-of", metavar="INSTANT", help="what ages count from; unset: the newest revision in the source that is not in the future")
@click.option("--wait", is_flag=True, help="until every order has ended or waits for a person")
@click.option("--timeout", default="10m", show_default=True, type=Span(), help="for --wait: 30s, 10m, 2h")
@formats()
def intake(file: str, **options: Any) -> None:
    """Take in a file of rows: JSONL, a JSON array, CSV or TSV, plain or gzip; - is standard input.

    The same file twice adds nothing; a killed intake goes on where it stopped. Rejected rows do not change the exit code:
    see --strict and --max-rejects.

    \b
    Example:
      shopfloor intake issues.jsonl.gz --flow issue-sweep --rejects rejects.jsonl
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.floors.publish import floor_in_force
    from pipeline.intake.from_file import only_flow, open_intake, preview_file, take_file
    from pipeline.intake.reject_limit import reject_limit
    from pipeline.startup.logs import configure
    from pipeline.startup.setup import SERVICE, load_registry

    wanted = _wanted(file, options)
    options["is_table"] = (options["kind"] or file.lower().removesuffix(".gz").rpartition(".")[2]) in ("csv", "tsv")
    limit = reject_limit(options["max_rejects"]) if options["max_rejects"] is not None else None
    # What the parts log is for services; a person gets one line of our own.
    configure("error")
    with session(Role.INTAKE, needs="submitter") as here:
        flow = only_flow(floor_in_force(here.conn, here.workspace).floor, options["flow"])
        # On the embedded default a machine submits, so that the one person here may review it.
        submitter = SERVICE if here.shop.settings.is_embedded and here.shop.settings.token is None else here.actor
        doorbell = None if options["dry_run"] else here.shop.doorbell()
        job = open_intake(
            here.conn, here.shop.store, here.workspace, flow, load_registry(), submitter=submitter, doorbell=doorbell,
            rejects=options["rejects_path"], max_rejects=limit, progress=_show,
        )  # fmt: skip
        try:
            report = preview_file(job, wanted) if options["dry_run"] else take_file(job, wanted)
        finally:
            progress_done()
        figures = summary(report, flow)
        if options["dry_run"] or not options["wait"]:
            _say(report, figures, options)
        else:
            _wait(here, report, figures, options)
    if doorbell is not None and not doorbell.is_up:
        click.echo("the broker cannot be reached: the rows are in, work on them starts when it is back", err=True)
    if options["dry_run"]:
        _refuse_what_would_be(job, wanted, report)


def _wanted(file: str, options: dict[str, Any]) -> Any:
    """Return what the options ask for. Raises BadInput before anything is opened."""
    from contracts.errors import BadInput
    from pipeline.intake.from_file import STANDARD_INPUT, FromFile

    needs_two_passes = options["strict"] or options["expect_rows"] is not None
    if file == STANDARD_INPUT and needs_two_passes and not options["dry_run"]:
        raise BadInput("standard input can be read only once: --strict and --expect-rows need a file", hint="save it to a file first")
    casts = dict(_cast(text) for text in options["casts"])
    as_of = _instant(options["as_of"]) if options["as_of"] is not None else None
    return FromFile(file, options["kind"], casts, as_of, options["strict"], options["expect_rows"])


def _cast(text: str) -> tuple[str, str]:
    from contracts.errors import BadInput

    column, equals, kind = text.rpartition("=")
    if not (column and equals and kind):
        raise BadInput(f"--cast {text[:80]!r}: expected COLUMN=TYPE, such as --cast number=int")
    return column, kind


def _instant(text: str) -> Any:
    from datetime import datetime

    from contracts.errors import BadInput
    from contracts.instants import RANGE, BeyondRangeError, parse_instant

    try:
        at = parse_instant(text) if datetime.fromisoformat(text).tzinfo else None
    except BeyondRangeError:
        raise BadInput(f"--as-of {text[:40]!r}: expected an instant from {RANGE}") from None
    except ValueError:
        at = None
    if at is None:
        raise BadInput(f"--as-of {text[:40]!r}: expected an instant with its offset, such as 2026-01-31T12:00:00Z")
    return at


def _refuse_what_would_be(job: Any, wanted: Any, report: Any) -> None:
    """Raise what the real run would: a preview in a script then needs no reading."""
    from contracts.errors import BadInput
    from pipeline.intake.from_file import refuse_unfit

    refuse_unfit(wanted, report)
    if job.max_rejects and job.max_rejects.is_passed(report.rejected, report.rows, final=True):
        raise BadInput(
            f"{report.rejected} of {report.rows} rows would be rejected, more than the {job.max_rejects} allowed",
            code="intake.too_many_rejects",
        )


def _wait(here: Any, report: Any, figures: dict[str, Any], options: dict[str, Any]) -> None:
    """Print the account, with how the batch's orders ended once they have."""
    from contracts.errors import Conflict
    from pipeline.operations.batches import wait_for_batch

    try:
        figures["ends"] = wait_for_batch(
            here.conn, here.workspace, report.batch_id, seconds=options["timeout"],
            progress=lambda: progress(f"batch {report.batch_id} is open"),
        )["orders"]  # fmt: skip
    except Conflict:
        _say(report, figures, options)
        raise
    finally:
        progress_done()
    _say(report, figures, options)


def place(bad: Any) -> str:
    """Return a rejected row in one line: where, which field, what was wrong, which code."""
    field = f", {bad.field}" if bad.field and not bad.message.startswith(bad.field) else ""
    return f"line {bad.line}, byte {bad.byte_offset}{field}: {printable(bad.message)} [{bad.code}]"


def summary(report: Any, flow: str) -> dict[str, Any]:
    """Return the account of an intake as fields."""
    return {
        "batch": report.batch_id,
        "flow": flow,
        "rows": report.rows,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "duplicate": report.duplicate,
        "context": report.context,
        "superseded": report.superseded,
        "resumed_at": report.resumed_at,
        "seconds": round(report.seconds, 3),
    }


def _show(report: Any, source: Any) -> None:
    share = f" {100 * source.bytes_read / source.total_bytes:.0f}%" if source.total_bytes else ""
    progress(f"intake{share} · {report.rows} rows · {report.rejected} rejected · {report.duplicate} duplicate")


def _say(report: Any, figures: dict[str, Any], options: dict[str, Any]) -> None:
    if options["form"] == "json":
        document(figures)
        return
    done = "would be taken in" if options["dry_run"] else "taken in"
    if report.resumed_at:
        click.echo(f"went on after row {report.resumed_at}, where an intake of this file was stopped")
    click.echo(
        f"{report.rows} rows: {report.accepted} {done} ({report.context} as context), {report.rejected} rejected, "
        f"{report.duplicate} duplicate in {report.seconds:.1f} s"
    )
    for bad in report.first_rejects:
        click.echo(f"  {place(bad)}")
    if any(bad.code == "intake.type" and "got a string" in bad.message for bad in report.first_rejects) and options["is_table"]:
        click.echo("  fields of CSV are text until they are declared: --cast number=int, say, once for each column")
    if report.rejected > len(report.first_rejects):
        click.echo(f"  … and {report.rejected - len(report.first_rejects)} more")
    if figures.get("ends"):
        click.echo("orders: " + ", ".join(f"{count} {state}" for state, count in figures["ends"].items()))
    if report.batch_id is not None:
        say(f"next: shopfloor batch show {report.batch_id}")
