"""Acting on one thing or many: ids from arguments or stdin, a result for each, and the exit code that sums them up."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from console.output import as_typed, document, formats, listing, printable
from console.spans import seconds_of
from contracts.errors import BadInput, PartlyDone, Refused, ShopfloorError

ITEM = "ITEM is an item's or order's id, the beginning of either, or a subject such as owner/repo#12."
"""How a person may name an item; in the help of every verb that acts on items."""
ITEMS = ITEM + " - reads them from stdin."
_MOST_HINTS = 10


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one thing that somebody asked for."""

    id: str
    about: str
    outcome: str
    """What was done, in a word or two; empty when it was refused."""
    error: ShopfloorError | None = None

    def row(self) -> dict[str, Any]:
        """Return it as a row."""
        why = self.error.message if self.error else ""
        return {
            "id": self.id,
            "about": self.about,
            "outcome": self.outcome or "refused",
            "code": self.error.instance_code if self.error else "",
            "why": why,
            "next": self.error.hint if self.error else "",
        }


class Span(click.ParamType[float]):
    """A length of time such as 90s, 15m, 2h, 3d; seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return seconds_of(str(value))
        except BadInput as error:
            self.fail(error.message, param, ctx)


def given(words: Sequence[str]) -> list[str]:
    """Return the ids on the command line, each once; `-` means stdin, one a line. Raises BadInput for a word that is blank."""
    found: dict[str, None] = {}
    for word in words:
        if not word.strip():
            raise BadInput("an id is empty: expected one, or - for ids from stdin", hint="nothing was done", code="input.empty")
        lines: Iterable[str] = sys.stdin if word == "-" else [word]
        for line in lines:
            if line.strip():
                found[line.strip()] = None
    return list(found)


Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def each_of(name: str, metavar: str) -> Decorator:
    """Return what makes a command one that reads things by name: once for each argument, or for each line of stdin with `-`.

    One that is refused stops none of the others; of several, each refusal is said on stderr.
    """

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def call(**options: Any) -> None:
            words = options.pop(name)
            found = given(words)
            refuse_empty_stdin(words, found)
            if not found:
                raise BadInput(f"{metavar} is empty: expected a name", code="input.empty")
            refused: list[ShopfloorError] = []
            for word in found:
                try:
                    command(**{name: word}, **options)
                except ShopfloorError as error:
                    if len(found) == 1:
                        raise
                    click.echo(f"{printable(word)}: {error.message}", err=True)
                    refused.append(error)
            if len(refused) == len(found):
                raise refused[0]
            if refused:
                raise PartlyDone(f"{len(found) - len(refused)} of {len(found)} shown; the others are named above")

        return click.argument(name, nargs=-1, required=True, metavar=f"{metavar}…")(call)

    return add


def on_many(*picks: Decorator) -> Decorator:
    """Return what makes a command one that changes items: named as arguments or picked by these options, with --why, --yes, --dry-run."""

    def add(command: Command) -> Command:
        of_all: tuple[Decorator, ...] = (
            click.option("--why", default="", help="kept with the act: in the history of each item, and in the audit"),
            click.option("--yes", is_flag=True, help="more than one at once"),
            click.option("--dry-run", is_flag=True, help="say what would be done, do nothing"),
            formats(rows=True),
        )
        for option in reversed((*picks, *of_all)):
            command = option(command)
        return click.argument("items", nargs=-1, metavar="[ITEM…]")(command)

    return add


def refuse_empty_stdin(words: Sequence[str], found: Sequence[str]) -> None:
    """Raise BadInput when ids were to come from stdin and none did: an empty list selects nothing, and is not a filter."""
    if "-" in words and not found:
        raise BadInput("standard input held no ids: expected one a line", hint="nothing was done", code="input.empty")


def ring(shop: Any, lanes: Iterable[str]) -> None:
    """Tell workers of new work, if a broker answers; the sweeper tells them within seconds anyway."""
    wanted = [lane for lane in lanes if lane]
    if not wanted:
        return
    from pipeline.startup import logs

    logs.configure("error")
    with contextlib.suppress(ShopfloorError):
        shop.doorbell().ring(wanted)


def many_need_yes(count: int, *, yes: bool, dry_run: bool, verb: str) -> None:
    """Return when one thing is meant, or the person said --yes, or only looks. Raises BadInput."""
    if count > 1 and not yes and not dry_run:
        raise BadInput(f"{verb} would act on {count}: say --yes, or look first with --dry-run", code="input.yes")


def carry_out(
    s: Any, found: Any, act: Callable[[Any, Sequence[Any]], Any], options: Mapping[str, Any], *, verb: str, by_name: bool, rings: bool
) -> list[Result]:
    """Do to the items found what was asked, tell workers of it, and return a result for each item and each unknown name.

    Raises BadInput when that needs --yes: more than one by name, or any by filters, where even one may be another than was meant.
    """
    items = found.items
    is_sure = options["yes"] or options["dry_run"] or not items
    if not by_name and not is_sure:
        raise BadInput(f"{verb} would act on {len(items)} by filters: say --yes, or look first with --dry-run", code="input.yes")
    many_need_yes(len(items), yes=is_sure, dry_run=options["dry_run"], verb=verb)
    results = [Result(str(one.item_id), one.subject, one.outcome, one.error) for one in act(s, items)]
    if rings and not options["dry_run"] and any(one.error is None for one in results):
        from queues.claims import lanes_due

        ring(s.shop, lanes_due(s.conn))
    return results + [Result(name, "", "", error) for name, error in found.unknown]


def report(results: Sequence[Result], form: str, *, verb: str, more: Mapping[str, Any] | None = None) -> None:
    """Print a result for each thing, then raise what the whole comes to: nothing, the error, or PartlyDone."""
    rows = [result.row() for result in results]
    refused = [result.error for result in results if result.error]
    if form == "json":
        document({"results": rows, "done": len(results) - len(refused), "refused": len(refused), **(more or {})})
    elif form == "text" and len(results) == 1:
        if not refused:
            click.echo(f"{results[0].outcome}: {results[0].id}  {printable(results[0].about)}".rstrip())
    else:
        columns = ["id", "about", "outcome", "why"] if form == "text" else ["id", "about", "outcome", "code", "why", "next"]
        listing(form, rows, name="results", columns=columns, empty="nothing matches")
        if form == "text":
            _say_next([row for row in rows if row["next"]])
    if not refused:
        return
    if len(refused) < len(results):
        raise PartlyDone(f"{verb}: {len(results) - len(refused)} of {len(results)} done, {len(refused)} refused; each says why above")
    first = refused[0]
    if len(refused) == 1:
        raise first
    if len({error.exit_code for error in refused}) > 1:
        raise Refused(f"{verb}: none of {len(refused)} done; each says why above")
    raise type(first)(
        f"{verb}: none of {len(refused)} done, the first because {first.message}",
        hint=first.hint,
        code=first.instance_code,
    )


def _say_next(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what to type for those that were refused, each advice once, below a table that a terminal may cut."""
    hints: dict[str, str] = {}
    for row in rows:
        hints.setdefault(row["next"], row["about"] or row["id"])
    for hint, about in list(hints.items())[:_MOST_HINTS]:
        click.echo(f"next for {printable(about)}: {as_typed(printable(hint))}")
    if len(hints) > _MOST_HINTS:
        click.echo(f"next for {len(hints) - _MOST_HINTS} more: see them with --json")
