"""The outermost layer: origin guard, lazy commands, errors as messages, exit codes."""

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
from contracts.errors import Refused, ShopfloorError

PACKAGES = ("contracts", "queues", "artifacts", "workcells", "pipeline", "console")
_INTERRUPTED = 130


class Lazy(click.Group):
    """A group that imports a command's module when it is called, so that `--help` imports none."""

    def __init__(self, name: str, entries: dict[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(name, **more)
        self.entries = entries
        """Command name → (module:attribute, one-line help)."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return the names in the catalogue's order."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """Return the command, imported now."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, importing nothing: a shell asks at every press of the key."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=means) for name, (_, means) in self.entries.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and one-line helps from the catalogue, importing nothing."""
        for title, names in GROUPS.items() if ctx.parent is None else {"Commands": list(self.entries)}.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.entries[name][1]) for name in names])


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
        # Named, so that usage lines and completion do not depend on how the process was started.
        cli(standalone_mode=False, prog_name="shopfloor")
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
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the outermost layer: no traceback ever reaches a user
        _last_words(error)
        sys.exit(1)


def complain(error: ShopfloorError) -> None:
    """Print an error: what was refused, seen and needed, then what to type next."""
    click.secho(f"shopfloor: {error}", err=True, fg="red")
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def _last_words(error: Exception) -> None:
    """Print what an accident was, and keep its traceback in a file for whoever mends it."""
    import psycopg

    if isinstance(error, psycopg.OperationalError):
        click.secho(f"shopfloor: the database went away: {str(error).splitlines()[0]} [unavailable.database]", err=True, fg="red")
        sys.exit(6)
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="shopfloor-accident-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    first = str(error).splitlines()[0] if str(error) else ""
    click.secho(f"shopfloor: an accident of ours: {type(error).__name__}: {first[:300]} [accident]", err=True, fg="red")
    click.echo(f"  details are in {file.name}; please report them", err=True)
