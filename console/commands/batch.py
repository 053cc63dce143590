"""batch: list, show, wait for batches; every row of one back, and its rejects."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import click
from console.acting import Span, each_of
from console.output import SCHEMA_VERSION, as_json, cell, document, formats, in_csv, listing, plain, printable, progress, progress_done, say
from contracts.errors import Refused

_LISTED = ("id", "flow", "state", "rows", "accepted", "rejected", "duplicate", "context", "created_at", "source")
_RESULT = (
    "row_no", "line", "subject", "outcome", "code", "field", "message", "order_id", "revision",
    "order_state", "finding", "item_id", "reason", "artifact_sha256", "proposal_id", "action",
    "target", "proposal_state", "apply_state", "applied_at",
)  # fmt: skip
_REJECT = ("row_no", "line", "byte_offset", "field", "code", "message")


@click.group()
def batch() -> None:
    """Batches: what came in together, and what became of every row.

    \b
    Example:
      shopfloor batch list
      shopfloor batch show latest
    """


@batch.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--cursor", type=click.UUID, help="go on after this id, as the page before said")
@formats(rows=True)
def list_(limit: int, cursor: UUID | None, form: str) -> None:
    """List batches, the newest first.

    \b
    Example:
      shopfloor batch list --limit 10
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.batches import list_batches

    with session(Role.READ) as here:
        rows = list_batches(here.conn, here.workspace, limit=limit + 1, after=cursor)
    following = rows[limit - 1]["id"] if len(rows) > limit else None
    if form == "json":
        document({"batches": rows[:limit], "next_cursor": following})
        return
    listing(form, rows[:limit], name="batches", columns=_LISTED, empty="no batch came in yet: shopfloor intake FILE")
    if following:
        click.echo(f"there are more: --cursor {following}", err=True)


@batch.command()
@each_of("batch_id", "BATCH")
@formats()
def show(batch_id: str, form: str) -> None:
    """Show a batch: rows, orders by state, findings, proposals, time. BATCH is an id or `latest`.

    \b
    Example:
      shopfloor batch show latest
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.batches import batch_summary

    with session(Role.READ) as here:
        found = batch_summary(here.conn, here.workspace, _batch(here, batch_id))
    document(found) if form == "json" else _tell(found)


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--timeout", default="10m", show_default=True, type=Span(), help="30s, 10m, 2h")
@formats()
def wait(batch_id: str, timeout: float, form: str) -> None:
    """Wait until every order of a batch has ended or waits for a person.

    Exit 4 when that takes longer, 1 when the batch failed: what was accepted is worked on, its other rows never came in.

    \b
    Example:
      shopfloor batch wait latest --timeout 5m
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.batches import wait_for_batch

    with session(Role.READ) as here:
        wanted = _batch(here, batch_id)
        try:
            found = wait_for_batch(here.conn, here.workspace, wanted, seconds=timeout, progress=lambda: progress(f"batch {wanted} is open"))
        finally:
            progress_done()
    document(found) if form == "json" else _tell(found)
    if found["state"] in ("failed", "cancelled"):
        raise Refused(
            f"batch {wanted} {found['state']}: {found['error'] or 'its rows are not all in'}",
            hint="take its file in again",
            code="batch.failed",
        )


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--after", default=0, metavar="ROW", type=click.IntRange(0), help="go on after this row number")
@formats(rows=True)
def results(batch_id: str, after: int, form: str) -> None:
    """Print every input row in order with what became of it. Any size: rows are streamed.

    \b
    Example:
      shopfloor batch results latest --csv > results.csv
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.batches import results as rows_of

    with session(Role.READ) as here:
        wanted = _batch(here, batch_id)
        _stream(form, rows_of(here.conn, here.workspace, wanted, after=after), wanted, "results", _RESULT, _result_line)


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option("--after", default=0, metavar="ROW", type=click.IntRange(0), help="go on after this row number")
@formats(rows=True)
def rejects(batch_id: str, after: int, form: str) -> None:
    """Print the rejected rows of a batch: where each is in the file, and what is wrong with it.

    \b
    Example:
      shopfloor batch rejects latest
    """
    from console.session import session
    from contracts.lifecycle import Role
    from pipeline.operations.batches import rejects as rows_of

    with session(Role.READ) as here:
        wanted = _batch(here, batch_id)
        _stream(form, rows_of(here.conn, here.workspace, wanted, after=after), wanted, "rejects", _REJECT, _reject_line)


def _batch(here: Any, text: str) -> UUID:
    from queues.database import transaction
    from queues.lookup import find_batch

    with transaction(here.conn, here.workspace):
        return find_batch(here.conn, text)


def _tell(found: dict[str, Any]) -> None:
    click.echo(f"batch {found['id']}  {found['flow']}  {found['state']}")
    click.echo(f"  {printable(found['source'])}, submitted by {printable(found['submitter'])}, {cell(found['created_at'])}")
    if found["as_of"]:
        click.echo(f"  ages count from {cell(found['as_of'])}")
    if found["is_unread"]:
        from queues.board.waits import how_to_complete

        say(f"  its intake is gone: {how_to_complete(is_stream=found['is_stream'])}; after ten minutes the batch is ended")
    if found["error"]:
        click.echo(f"  ended early: {printable(found['error'])}")
    click.echo(
        f"  {found['rows']:,} rows = {found['accepted']:,} accepted ({found['context']:,} context)"
        f" + {found['rejected']:,} rejected + {found['duplicate']:,} duplicate, read in {found['intake_seconds']:.1f} s"
    )
    for name, title in (("orders", "orders"), ("findings", "ended as"), ("proposals", "proposals")):
        if found[name]:
            click.echo(f"  {title:<11} " + ", ".join(f"{count:,} {printable(what)}" for what, count in found[name].items()))
    for row in found["in_progress"]:
        click.echo(f"  {'in progress':<11} {row['items']:,} {row['status']} in lane {row['lane']}")
    if found["seconds"] is not None:
        click.echo(f"  over after {found['seconds']:.1f} s")
    if found["rejected"]:
        say(f"next: shopfloor batch rejects {found['id']}")


def _result_line(row: dict[str, Any]) -> str:
    became = row["code"] if row["outcome"] == "rejected" else row["order_state"] or ""
    if became == "open":
        became = f"open ({row['reason']})"
    did = " ".join(part for part in (row["action"], row["proposal_state"]) if part)
    said = f"{row['outcome']:<9}  {became:<20}  {row['finding'] or '–':<24}  {did}"
    return f"{row['row_no']:>8}  {printable(row['subject'] or '–'):<32}  {said}".rstrip()


def _reject_line(row: dict[str, Any]) -> str:
    field = f", {row['field']}" if row["field"] and not row["message"].startswith(row["field"]) else ""
    return printable(f"line {row['line']}, byte {row['byte_offset']}{field}: {row['message']} [{row['code']}]")


def _stream(form: str, rows: Iterable[dict[str, Any]], batch_id: UUID, name: str, columns: tuple[str, ...], line: Any) -> None:
    """Print rows as they come: none is kept."""
    if form == "text":
        for row in rows:
            click.echo(line(row))
    elif form == "csv":
        for text in _csv(rows, columns):
            click.echo(text, nl=False)
    elif form == "jsonl":
        for row in rows:
            click.echo(as_json(plain(row)))
    else:
        head = json.dumps({"schema_version": SCHEMA_VERSION, "batch": str(batch_id)})
        click.echo(f'{head[:-1]}, "{name}": [', nl=False)
        for number, row in enumerate(rows):
            click.echo((", " if number else "") + as_json(plain(row)), nl=False)
        click.echo("]}")


def _csv(rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: in_csv(value) for name, value in plain(row).items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()
