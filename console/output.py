"""How results look: tables and words for people, `--json`, `--jsonl` and `--csv` for programs. Data on stdout alone."""

import csv
import functools
import io
import itertools
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from console.catalogue import COMMANDS
from contracts.errors import BadInput
from contracts.excerpts import visible

SCHEMA_VERSION = 1
CALLED_AS = "_SHOPFLOOR_CALLED_AS"
"""The variable in which the launcher passes on how it was called."""
_NAME = "shopfloor"


def formats(*, rows: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--json`, and for lists `--jsonl` and `--csv`; the command gets `form`: text, json, jsonl or csv."""
    said = {"json": "one JSON document on stdout"}
    if rows:
        said |= {"jsonl": "one JSON object a line", "csv": "CSV with a header line"}

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(**options: Any) -> Any:
            wanted = [form for form in said if options.pop(f"as_{form}")]
            if len(wanted) > 1:
                raise BadInput(f"{' and '.join(f'--{form}' for form in wanted)} are two forms: expected one", code="input.forms")
            return command(form=wanted[0] if wanted else "text", **options)

        decorated: Callable[..., Any] = call
        for form, means in said.items():
            decorated = click.option(f"--{form}", f"as_{form}", is_flag=True, help=means)(decorated)
        return decorated

    return add


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: ids and paths as text, instants as ISO 8601 UTC, bytes as hex."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, (UUID, Path)):
        return str(value)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def say(text: str, **style: Any) -> None:
    """Print a line for people; the commands in it as this reader has to type them."""
    click.secho(as_typed(text), **style)


def as_typed(text: str) -> str:
    """Return a text of ours with its commands as this reader has to type them: `./shopfloor up` where that is how shopfloor was called.

    For hints and remedies alone, never for what somebody else wrote.
    """
    called = called_as()
    return text if called == _NAME else _command().sub(called.replace("\\", "\\\\"), text)


@cache
def called_as() -> str:
    """Return how shopfloor was called: its plain name where PATH leads to it, else the path that was typed, as the launcher passes it on."""
    typed = os.environ.get(CALLED_AS, "")
    found = shutil.which(_NAME)
    if not typed or (found and os.path.exists(typed) and os.path.samefile(found, typed)):
        return _NAME
    return shlex.quote(typed)


@cache
def _command() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w./-]){_NAME}(?= (?:{'|'.join(COMMANDS)})\b)")


def document(fields: Mapping[str, Any]) -> None:
    """Print one JSON document, its `schema_version` first, on one line."""
    click.echo(as_json({"schema_version": SCHEMA_VERSION, **plain(fields)}))


def listing(
    form: str, rows: Iterable[Mapping[str, Any]], *, name: str, columns: Sequence[str] | None = None, empty: str = "nothing"
) -> None:
    """Print rows in the form asked for; as text, a table of `columns` with control characters made visible."""
    found = list(rows)
    if form == "json":
        document({name: found})
    elif form == "jsonl":
        for row in found:
            click.echo(as_json(plain(row)))
    elif form == "csv":
        names = list(columns or (found[0].keys() if found else ()))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: in_csv(value) for name, value in plain(row).items()} for row in found)
        click.echo(buffer.getvalue(), nl=False)
    elif not found:
        say(empty)
    else:
        table(found, list(columns or found[0].keys()))


def as_json(value: Any) -> str:
    """Return a value as JSON; on a terminal in ASCII alone, so that no text in it can act on the terminal."""
    return json.dumps(value, ensure_ascii=sys.stdout.isatty())


def in_csv(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and sys.stdout.isatty() else value


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as aligned columns, cut to the terminal's width on a terminal and whole in a pipe.

    The last columns are left out where they do not fit at all; which, is said on stderr.
    """
    width = terminal_width()
    cells, widths = _cells(rows, columns, cell)
    left_out: list[str] = []
    if _total(widths) > width:
        cells, widths = _cells(
            rows, columns, lambda value: f"{value.astimezone():%m-%d %H:%M:%S}" if isinstance(value, datetime) else cell(value)
        )
        columns = list(columns)
        while len(columns) > 1 and _total(_narrowest(widths[: len(columns)], columns, cells)) > width:
            left_out.insert(0, columns.pop())
        cells, widths = [line[: len(columns)] for line in cells], _fitted(widths[: len(columns)], columns, cells, width)
    for line in [[name.upper().replace("_", " ") for name in columns], *cells]:
        parts = (_cut(part, size, name).ljust(size) for part, size, name in zip(line, widths, columns, strict=True))
        click.echo("  ".join(parts).rstrip()[:width])
    if left_out:
        click.echo(f"left out: {', '.join(left_out)}; a wider terminal or --csv has them", err=True)


def _cells(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], shown: Callable[[Any], str]
) -> tuple[list[list[str]], list[int]]:  # fmt: skip
    cells = [[shown(row.get(name)) for name in columns] for row in rows]
    return cells, [max(len(name), *(len(line[k]) for line in cells)) for k, name in enumerate(columns)]


def _cut(text: str, size: int, column: str) -> str:
    if len(text) <= size:
        return text
    # Of owner/repo#12 it is the end that tells.
    return "…" + text[1 - size :] if column in ("subject", "target") else text[: size - 1] + "…"


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


_NARROWEST = 8
_NARROWEST_ID = 14
"""With its … this much of an id holds its time to the millisecond."""


def _narrowest(widths: Sequence[int], columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    least = [_narrowest_id([line[k] for line in cells]) if _is_id(name) else _NARROWEST for k, name in enumerate(columns)]
    return [min(pair) for pair in zip(widths, least, strict=True)]


def _narrowest_id(ids: Sequence[str]) -> int:
    """Return the width at which what is left of each id, before its …, differs from all others: it can be typed back."""
    ordered = sorted(set(ids))
    shared = max((_shared_length(*pair) for pair in itertools.pairwise(ordered)), default=0)
    return max(_NARROWEST_ID, shared + 2)


def _shared_length(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _is_id(column: str) -> bool:
    return column == "id" or column.endswith("_id")


def _fitted(widths: Sequence[int], columns: Sequence[str], cells: Sequence[Sequence[str]], most: int) -> list[int]:
    """Return column widths that fit into `most`: ids are cut first, then the widest."""
    left, least = list(widths), _narrowest(widths, columns, cells)
    while _total(left) > most and left != least:
        able = [k for k in range(len(left)) if left[k] > least[k]]
        left[next((k for k in able if _is_id(columns[k])), max(able, key=left.__getitem__))] -= 1
    return left


def terminal_width() -> int:
    return shutil.get_terminal_size((120, 40)).columns if sys.stdout.isatty() else 10_000


def cell(value: Any) -> str:
    """Return a value for a table: nothing as a dash, instants in the viewer's zone, untrusted text made harmless."""
    if value is None or value == "":
        return "–"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
    if isinstance(value, float):
        return f"{value:.2f}"
    return printable(str(plain(value)) if not isinstance(value, str) else value)


def printable(text: str) -> str:
    """Return text without anything that a terminal or a reader's eye would act on: controls, escapes, bidi marks."""
    return visible(text.translate(_SHOWN))


_SHOWN = str.maketrans({"\n": "⏎", "\t": " ", "\r": "␍"})


def age(seconds: float | None) -> str:
    """Return a duration in one glance: 4s, 3m, 2h, 5d; a dash when unknown."""
    if seconds is None:
        return "–"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def progress(text: str) -> None:
    """Say on stderr how far a long command is; one line that rewrites itself on a terminal, silent elsewhere."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", err=True, nl=False)


def progress_done() -> None:
    """End the line of `progress`."""
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
