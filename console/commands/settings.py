"""settings: what can be set, what is set, what it means."""

import click
from console.output import formats, listing


@click.command()
@click.option("--changed", is_flag=True, help="only those whose value is not the default")
@formats(rows=True)
def settings(changed: bool, form: str) -> None:
    """List every setting with its value, default and meaning. Secrets show as `set`, never their value.

    \b
    Example:
      shopfloor settings
      SHOPFLOOR_WORKERS=4 shopfloor settings --changed
    """
    from pipeline.startup.settings import described, load

    rows = described(load())
    if changed:
        rows = [row for row in rows if row["value"] != row["default"]]
    listing(form, rows, name="settings", columns=["name", "value", "default", "means"], empty="everything is at its default")
