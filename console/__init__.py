"""Where people stand: the command line. Parses, calls one function, renders."""

VERSION = "0.1.0"


def main() -> None:
    """Run `shopfloor`; every error leaves as one clear message and its exit code, never as a traceback."""
    from console.shell import run

    run()
