"""Where people stand: the command line. Parses, calls one function, renders."""


def main() -> None:
    """Run `shopfloor`; every error leaves as one clear message and its exit code, never as a traceback."""
    from console.shell import run

    run()
