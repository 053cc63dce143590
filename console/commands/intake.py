"""intake: rows in, every one accounted for."""

from typing import Any

import click

from console.acting import Span
from console.output import document, formats, printable, progress, progress_done


@click.command()
@click.argument("file")
@click.option("--flow", help="flow of the floor; may be left out when it has one")
@click.option("--format", "kind", type=click.Choice(["jsonl", "json", "csv", "tsv"]), help="unset: by name and first bytes")
@click.option("--cast", "casts", multiple=True, metavar="COLUMN=TYPE", help="type of a CSV column: int, number, bool, json, timestamp")
@click.option("--dry-run", is_flag=True, help="read and validate everything, write nothing")
@click.option("--strict", is_flag=True, help="validate everything first; one bad row and nothing is taken in")
@click.option("--rejects", "rejects_path", metavar="FILE", help="write rejected rows here, a JSON line each")
@click.option("--max-rejects", metavar="N", type=click.IntRange(0), help="stop when more rows than this are rejected")
@click.option("--expect-rows", metavar="N", type=click.IntRange(0), help="refuse a file that holds another number of rows")
@click.option("--as-of", metavar="INSTANT", help="what ages count from; unset: the newest revision in the source")
@click.option("--wait", is_flag=True, help="until every order has ended or waits for a person")
@click.option("--timeout", default="10m", show_default=True, type=Span(), help="for --wait: 30s, 10m, 2h")
@formats()
def intake(file: str, **options: Any) -> None:
    """Take in a file of rows: JSONL, a JSON array, CSV or TSV, plain or gzip; - is standard input.

    The same file twice adds nothing; a killed intake goes on where it stopped.

    \b
    Example:
      shopfloor intake issues.jsonl.gz --flow issue-sweep --rejects rejects.jsonl
    """
    from contracts.lifecycle import Role
    from pipeline.publish import floor_in_force
    from pipeline.setup import SERVICE, load_registry
    from pipeline.taking import only_flow, open_intake, rejects_beside

    from console.session import session

    with session(Role.INTAKE) as open_session:
        flow = only_flow(floor_in_force(open_session.conn, open_session.workspace).floor, options["flow"])
        # On the embedded default a machine submits, so that the one person here may review it.
        submitter = SERVICE if open_session.shop.settings.is_embedded and open_session.shop.settings.token is None else open_session.actor
        job = open_intake(
            open_session.conn, open_session.shop.store, open_session.workspace, flow, load_registry(), submitter=submitter,
            doorbell=open_session.shop.doorbell(), rejects=rejects_beside(options["rejects_path"]), max_rejects=options["max_rejects"],
            progress=_show,
        )  # fmt: skip
        report = _run(job, file, options)
        progress_done()
        figures = summary(report, flow)
        if options["wait"] and report.batch_id is not None:
            from pipeline.batches import wait_for_batch

            figures["account"] = wait_for_batch(open_session.conn, open_session.workspace, report.batch_id, seconds=options["timeout"])
    if options["form"] == "json":
        document(figures)
    else:
        _tell(report, figures, options)


def _run(job: Any, file: str, options: dict[str, Any]) -> Any:
    from pipeline.intake import check, take_in
    from pipeline.sources import open_source

    casts = dict(_cast(text) for text in options["casts"])
    as_of = _instant(options["as_of"]) if options["as_of"] else None
    if options["strict"] or options["dry_run"] or options["expect_rows"] is not None:
        _refuse_stream(file)
        with open_source(file, format=options["kind"], casts=casts) as source:
            report = check(job, source)
        _hold_to(report, options)
        if options["dry_run"]:
            return report
    with open_source(file, format=options["kind"], casts=casts) as source:
        return take_in(job, source, as_of=as_of)


def _hold_to(report: Any, options: dict[str, Any]) -> None:
    from contracts.errors import BadInput

    if options["expect_rows"] is not None and report.rows != options["expect_rows"]:
        raise BadInput(f"the source holds {report.rows} rows: expected {options['expect_rows']}; nothing was taken in", code="source.rows")
    if options["strict"] and report.rejected and not options["dry_run"]:
        first = report.first_rejects[0]
        raise BadInput(
            f"{report.rejected} of {report.rows} rows would be rejected; nothing was taken in. First: {place(first)}",
            hint="shopfloor intake FILE --dry-run --rejects rejects.jsonl lists them all",
            code="source.strict",
        )


def _refuse_stream(file: str) -> None:
    from contracts.errors import BadInput

    if file == "-":
        raise BadInput("standard input can be read only once: --strict, --dry-run and --expect-rows need a file", hint="save it to a file first")


def _cast(text: str) -> tuple[str, str]:
    from contracts.errors import BadInput

    column, equals, kind = text.partition("=")
    if not (column and equals and kind):
        raise BadInput(f"--cast {text!r}: expected COLUMN=TYPE, such as --cast number=int")
    return column, kind


def _instant(text: str) -> Any:
    from datetime import UTC, datetime

    from contracts.errors import BadInput

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--as-of {text!r}: expected an ISO instant, such as 2026-01-31T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def place(bad: Any) -> str:
    """Return a rejected row in one line: where, which field, what was wrong, which code."""
    field = f", {bad.field}" if bad.field else ""
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


def _tell(report: Any, figures: dict[str, Any], options: dict[str, Any]) -> None:
    done = "would be taken in" if options["dry_run"] else "taken in"
    click.echo(
        f"{report.rows} rows: {report.accepted} {done} ({report.context} as context), {report.rejected} rejected, {report.duplicate} duplicate"
        f" in {report.seconds:.1f} s"
    )
    for bad in report.first_rejects:
        click.echo(f"  {place(bad)}")
    if report.rejected > len(report.first_rejects):
        click.echo(f"  … and {report.rejected - len(report.first_rejects)} more")
    if report.batch_id is not None:
        click.echo(f"next: shopfloor batch show {report.batch_id}")
