"""Command lines as people read them in help, documentation and messages: found, and parsed as the console would."""

import re
import shlex
from collections.abc import Iterator

import click
from console.shell import cli


def calls_in(line: str) -> Iterator[list[str]]:
    """Yield the words after `shopfloor` of every call of it in a line of shell."""
    for inner in re.findall(r"\$\((shopfloor [^)]*)\)", line):
        yield from calls_in(inner)
    lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "X", line), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] | None = None
    skip = False
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;<>"):
            if token in ("<", ">", ">>"):
                skip = True
            elif words is not None:
                yield words
                words = None
        elif skip:
            skip = False
        elif words is not None:
            words.append(token)
        elif token in ("shopfloor", "./shopfloor"):
            words = []


def parse(words: list[str]) -> click.Context | None:
    """Parse a command line as the console would, and run nothing; return its context. Raises UsageError.

    None for a group, for --help, and for the launcher's own `test`.
    """
    if words[:1] == ["test"]:
        return None
    command: click.Command = cli
    context = click.Context(cli, info_name="shopfloor")
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    if isinstance(command, click.Group) or "--help" in rest:
        return None
    return command.make_context(context.info_name or "", rest, parent=context.parent)
