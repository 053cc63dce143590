"""completion: what a shell reads to complete our commands and options."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell. It completes the command `shopfloor`, wherever that is on PATH.

    \b
    Example:
      shopfloor completion bash >> ~/.bashrc
      shopfloor completion zsh > "${fpath[1]}/_shopfloor"
      shopfloor completion fish > ~/.config/fish/completions/shopfloor.fish
    """
    from click.shell_completion import get_completion_class
    from console.shell import cli

    made = get_completion_class(shell)
    assert made is not None, "click knows these three shells"
    click.echo(made(cli, {}, "shopfloor", "_SHOPFLOOR_COMPLETE").source())
