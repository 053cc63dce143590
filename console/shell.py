"""The outermost layer: origin guard, lazy commands, errors as messages, exit codes."""

import errno
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem
from console import VERSION
from console.catalogue import COMMANDS, GROUPS
from contracts.errors import BadInput, Refused, ShopfloorError, Unavailable

PACKAGES = ("contracts", "queues", "artifacts", "workcells", "pipeline", "console")
_INTERRUPTED = 130
_COMPLETE = "_SHOPFLOOR_COMPLETE"
_OF_THE_MACHINE = {
    errno.ENOSPC: "make room on the disk that is written to, then type the same again; what was done before stays done: shopfloor status",
    errno.EDQUOT: "make room within the quota, then type the same again; what was done before stays done: shopfloor status",
    errno.EROFS: "that place cannot be written to: mount it writable, or name another (HOME, XDG_CONFIG_HOME, SHOPFLOOR_DATA_DIR)",
    errno.EACCES: "that place is not this user's: change its owner, or name another (HOME, XDG_CONFIG_HOME, SHOPFLOOR_DATA_DIR)",
    errno.EPERM: "that place is not this user's: change its owner, or name another (HOME, XDG_CONFIG_HOME, SHOPFLOOR_DATA_DIR)",
    errno.EBADF: "standard input or output is closed: open it, or lead it to /dev/null",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
}
"""Errors of the operating system that a person can fix, each with how."""


class ReaderGoneError(Exception):
    """Whoever read our output has closed it. Click would make exit code 1 of it: `| head` is no failure."""


class Lazy(click.Group):
    """A group that imports a command's module when it is called, so that `--help` imports none."""

    def __init__(self, name: str, entries: dict[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(name, **more)
        self.entries = entries
        """Command name → (module:attribute, one-line help)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed pipe leaves as what it is."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGoneError from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return the names in the catalogue's order."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """Return the command, imported now."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        _name_as_typed(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; say which one is near where there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            if near := difflib.get_close_matches(args[0], self.entries, 1):
                raise click.UsageError(f"No such command {args[0]!r}: did you mean {near[0]}?", ctx) from error
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, importing nothing: a shell asks at every press of the key."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=means) for name, (_, means) in self.entries.items() if name.startswith(incomplete)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it, its commands as this reader has to type them."""
        from console.output import as_typed

        self.epilog = as_typed(self.epilog or "")
        super().format_epilog(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and one-line helps from the catalogue, importing nothing."""
        for title, names in GROUPS.items() if ctx.parent is None else {"Commands": list(self.entries)}.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.entries[name][1]) for name in names])


def _name_as_typed(command: click.Command) -> None:
    """Have the help of a command, and of those below it, name shopfloor the way it was called."""
    from console.output import as_typed

    command.help, command.epilog = as_typed(command.help or ""), as_typed(command.epilog or "")
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _name_as_typed(below)


@click.command(
    cls=Lazy,
    name="shopfloor",
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: shopfloor demo",
)
@click.version_option(VERSION, message="%(version)s")
def cli() -> None:
    """A governed production line for AI work."""


def guard_origin() -> None:
    """Raise Refused unless all our packages come from one folder: another `queues` on the path would run in our place."""
    parents = set()
    for name in PACKAGES:
        spec = find_spec(name)
        parents.add(str(Path(spec.origin).parent.parent) if spec and spec.origin else f"(no package {name})")
    if len(parents) > 1:
        raise Refused(
            f"shopfloor's packages come from different places: {', '.join(sorted(parents))}",
            hint="run it from its own environment: ./shopfloor, or a venv that holds nothing else",
            code="origin",
        )


def run() -> NoReturn:
    """Run the command line and exit."""
    try:
        guard_origin()
        _call()
        sys.stdout.flush()
        sys.exit(0)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ShopfloorError as error:
        complain(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    except (BrokenPipeError, ReaderGoneError):
        # The reader of our output left (`| head`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            _last_words(error)
            sys.exit(1)
        where = f" ({error.filename})" if error.filename else ""
        complain(Unavailable(f"{os.strerror(error.errno)}{where}", hint=_OF_THE_MACHINE[error.errno], code="unavailable.machine"))
        _forget_output()
        sys.exit(Unavailable.exit_code)
    except UnicodeEncodeError as error:
        # Arguments that are no UTF-8 come as lone surrogates, which nothing that we ask can take.
        seen = error.object[error.start : error.end].encode("utf-8", "surrogateescape")
        complain(BadInput(f"an argument or input holds the bytes {seen!r}, which are not UTF-8", hint="type it again as text"))
        sys.exit(BadInput.exit_code)
    except Exception as error:  # noqa: BLE001 - the outermost layer: no traceback ever reaches a user
        _last_words(error)
        sys.exit(1)


def _call() -> None:
    """Run the command. An error that Ctrl-C brings about is an interruption: the driver cancels its query, and more may fail on the way out."""
    try:
        # Named, so that completion does not depend on how the process was started.
        cli(standalone_mode=False, prog_name=_name_in_usage(), complete_var=_COMPLETE)
    except Exception as error:
        before = error.__context__
        while before is not None:
            if isinstance(before, KeyboardInterrupt):
                raise before from None
            before = before.__context__
        raise


def _name_in_usage() -> str:
    from console.output import called_as

    return "shopfloor" if _COMPLETE in os.environ else called_as()


def _forget_output() -> None:
    """Drop what standard output could not take: Python would try once more on its way out, and fail aloud."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def complain(error: ShopfloorError) -> None:
    """Print an error: what was refused, seen and needed, then what to type next."""
    from console.output import as_typed, printable

    # Messages repeat what somebody else wrote: subjects, targets, names of files.
    for number, line in enumerate(str(error).split("\n")):
        click.secho(f"shopfloor: {printable(line)}" if not number else printable(line), err=True, fg="red")
    for line in error.hint.splitlines():
        click.echo(f"  {as_typed(printable(line))}", err=True)


def _last_words(error: Exception) -> None:
    """Print what an unexpected error was, and keep its traceback in a file for the report."""
    import psycopg
    from queues.database import first_line, is_connection_error

    if is_connection_error(error):
        hint = "make room on the disk of the database" if isinstance(error, psycopg.errors.DiskFull) else "shopfloor doctor"
        complain(Unavailable(f"the database went away: {first_line(error)}", hint=hint, code="unavailable.database"))
        sys.exit(Unavailable.exit_code)
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="shopfloor-error-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    first = str(error).splitlines()[0] if str(error) else ""
    click.secho(f"shopfloor: internal error, please report: {type(error).__name__}: {first[:300]} [internal]", err=True, fg="red")
    click.echo(f"  details are in {file.name}", err=True)
