"""Every command line in a text of the product can be typed: it parses, needs nothing more, and its values are safe in a shell."""

import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
from docs import commands
from queues.database import Connection
from tests.command_lines import calls_in, parse
from tests.in_process import Road
from tests.item_states import buried
from tests.remedies import ROOT, Remedy, filled, texts, values_in, written

ID = "0199a1b2-0000-7000-8000-000000000000"
VALUES = {
    "now.lane": "cell.issue_review",
    "row['lane']": "cell.issue_review",
    "one.reason": "human",
    "needs": "operator",
    "sha256": "3f2a9c01" * 8,
    "last['contract']": "issue_review@1.0.0",
}
"""Values of remedies that are neither ids nor quoted for the shell, each with a sample. Their alphabets hold nothing that a shell reads."""
WORDS = {"latest", "list"}
"""Lower-case words that a command takes where an id or a name is expected."""
FOREIGN = {"--config-file", "--format", "--paginate", "--jq", "--system", "--uid"}
"""Options of other programs."""
TAKE = {name: {one.name for one in command.params} for name, command in commands.every() if not isinstance(command, click.Group)}
STEERING = [name for name, words in TAKE.items() if {"items", "yes"} <= words]
ANSWERS = [name for name, words in TAKE.items() if {"proposals", "yes"} <= words]
WHY = {"rework": "why", "withdraw": "why", "pause": "why", "review reject": "reason", "review rework": "reason"}
"""Commands that click does not know to need an option."""


def typed(remedy: Remedy) -> str:
    """Return a remedy with samples in place of its values. Fails for a value that nobody has looked at."""
    known = {}
    for value in values_in(remedy.line):
        is_id = re.search(r"(?:\bid|_id|\bitem|\['(?:apply_|item_|)id'\]|newer\[0\])$", value)
        known[value] = VALUES.get(value) or (ID if is_id else "'two words'" if "quote(" in value else "")
        assert known[value], (
            f"{remedy.place}: {{{value}}} of {remedy.line!r}: quote it for the shell, or say in VALUES why that is not needed"
        )
    return filled(remedy.line, known)


def missing(words: list[str], context: click.Context) -> Iterator[str]:
    """Yield what a command would refuse although it parses."""
    name, said = context.command_path.removeprefix("shopfloor "), context.params
    named = next((said[one] for one in ("items", "proposals") if one in said), None)
    if named is not None and not named:
        if not any(value for key, value in said.items() if key not in ("why", "yes", "dry_run", "stagger", "reason")):
            yield "an id or a filter"
        if name in STEERING and not (said["yes"] or said["dry_run"]):
            yield "--yes or --dry-run: a filter may hold many"
    if name in WHY and not said[WHY[name]] and said.get("scope") != "list":
        yield f"--{WHY[name]}"
    if name == "apply probe" and said["answer"] and not said["reason"]:
        yield "--reason"
    if name == "token revoke" and not (said["token_id"] or said["actor"]):
        yield "a token or an actor"
    for one in context.command.params:
        if isinstance(one, click.Argument) and not isinstance(one.type, click.Choice):
            value = said[one.name or ""]
            for word in map(str, value if isinstance(value, tuple) else [value]):
                if value and re.fullmatch("[a-z…]+", word) and word not in WORDS:
                    yield f"an end before {word!r}: a person copies to the end of the line"


@pytest.mark.parametrize("remedy", written(), ids=lambda one: f"{one.place} {one.line}")
def test_a_remedy_can_be_typed_as_it_stands(remedy: Remedy) -> None:
    line = typed(remedy)
    assert not remedy.is_message, "what to type belongs into the hint of an error, which is printed as the reader has to type it"
    assert not remedy.is_raw, "print it with `say`, or through `as_typed`"
    [words] = calls_in(line)
    try:
        context = parse(words)
    except click.MissingParameter as error:
        if not remedy.is_mention:
            pytest.fail(f"{line}: {error.format_message()}")
        return
    except click.UsageError as error:
        pytest.fail(f"{line}: {error.format_message()}")
    if words[0] != "test":
        assert context is not None, f"{line} only prints help"
        assert remedy.is_mention or list(missing(words, context)) == [], line


def test_every_option_in_a_text_is_one_of_a_command() -> None:
    known = {option for _, command in commands.every() for one in command.params for option in one.opts} | {"--help", "--chaos"}
    wrong = [
        f"{text.place}: {option}"
        for text in texts()
        if " " in text.text and not text.place.startswith("shopfloor:")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w=-])", text.text)
        if option not in known | FOREIGN
    ]
    assert wrong == []


def test_a_filter_that_picks_something_needs_a_word_more(road: Road, admin: Connection, cli: Any) -> None:
    buried(road, admin, 1)
    for name in STEERING:
        by_filter = ("--lane", "cell.issue_review") if "lane" in TAKE[name] else ("--batch", "latest")
        refused = cli(*name.split(), *by_filter, "--why", "x")
        assert (refused.exit_code, "say --yes, or look first with --dry-run" in refused.stderr) == (2, True), refused.stderr


def refusals() -> Iterator[list[str]]:
    """Return the shortest call of each command that only the command itself refuses."""
    yield from ([*name.split(), *([ID] if name != "pause" else ["all"])] for name in WHY)
    yield from (name.split() for name in (*STEERING, *ANSWERS, "token revoke"))
    yield ["apply", "probe", ID, "--is", "applied"]


@pytest.mark.parametrize("words", list(refusals()), ids=" ".join)
def test_what_a_remedy_is_held_to_is_what_the_command_demands(words: list[str], cli: Any) -> None:
    context = parse(words)
    assert context is not None
    assert list(missing(words, context))
    refused = cli(*words)
    assert refused.exit_code == 2, refused.stderr


@pytest.mark.parametrize("name", sorted({*STEERING, *ANSWERS} - WHY.keys()))
def test_an_id_is_enough_for_the_other_commands_that_act_on_several(name: str, cli: Any) -> None:
    unknown = cli(*name.split(), ID)
    assert unknown.exit_code == 3, f"it may belong into WHY: {unknown.stderr}"


def test_folders_that_examples_and_hints_name_are_there() -> None:
    said = [line for _, command in commands.every() for line in commands.parts_of(command)[1]] + [text.text for text in texts()]
    named = {path for line in said for path in re.findall(r"\bworkcells/[a-z_/]+", line)}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
