"""The command line as documentation: every command with its arguments, options and examples, read from click."""

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc

import click
from console.catalogue import COMMANDS, GROUPS

_OUTPUT = ("json", "jsonl", "csv")
_WORDS = {
    "integer": "N",
    "integer range": "N",
    "float": "N",
    "float range": "N",
    "uuid": "ID",
    "path": "PATH",
    "file": "FILE",
    "text": "TEXT",
}


def every() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, groups before what they hold."""
    for name, (place, _) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        yield from _below(name, getattr(import_module(module), attribute))


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child, below in command.commands.items():
            yield from _below(f"{name} {child}", below)


def parts_of(command: click.Command) -> tuple[str, list[str]]:
    """Return a command's help without its examples, and the lines of its examples."""
    text, _, examples = cleandoc(command.help or "").partition("\b\nExample:\n")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    if command.epilog:
        paragraphs.append(" ".join(command.epilog.split()))
    return "\n\n".join(paragraphs), [line.strip() for line in examples.splitlines() if line.strip()]


def index() -> str:
    """Return the commands by what people do with them."""
    lines = ["| | command | does |", "| --- | --- | --- |"]
    for title, names in GROUPS.items():
        lines += [f"| {title if not k else ''} | `{name}` | {COMMANDS[name][1]} |" for k, name in enumerate(names)]
    return "\n".join(lines)


def reference() -> str:
    """Return a section for every command."""
    return "\n\n".join(_section(name, command) for name, command in every())


def _section(name: str, command: click.Command) -> str:
    arguments = [_argument(one) for one in command.params if isinstance(one, click.Argument)]
    said, examples = parts_of(command)
    blocks = [f"### `{' '.join(['shopfloor', name, *arguments])}`", said]
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    rows = [f"- {_option(one)}" for one in shown if one.opts[0].removeprefix("--") not in _OUTPUT]
    if rows:
        blocks.append("\n".join(rows))
    output = [f"`{one.opts[0]}`" for one in shown if one.opts[0].removeprefix("--") in _OUTPUT]
    if output:
        blocks.append(f"Output: {', '.join(reversed(output))}.")
    blocks.append("```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(blocks)


def _argument(one: click.Argument) -> str:
    word = (one.metavar or (one.name or "").upper()).strip("[]").removesuffix("...").removesuffix("…") + ("…" if one.nargs == -1 else "")
    if isinstance(one.type, click.Choice):
        word = "|".join(map(str, one.type.choices))
    return word if one.required else f"[{word}]"


def _option(one: click.Option) -> str:
    value = ""
    if not one.is_flag:
        if isinstance(one.type, click.Choice):
            value = " " + "|".join(map(str, one.type.choices))
        else:
            value = " " + (one.metavar or _WORDS.get(one.type.name, one.type.name.upper()))
    said = f"`{', '.join(one.opts)}{value}`"
    notes = ["required"] if one.required else []
    if one.multiple:
        notes.append("may be repeated")
    if one.show_default and one.default not in (None, (), False):
        notes.append(f"default {one.default}")
    return said + (f": {one.help}" if one.help else "") + (f" ({', '.join(notes)})" if notes else "")
