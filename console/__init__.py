"""Where people stand: the command line. Parses, calls one function, renders."""

VERSION = "0.1.0"


def main() -> None:
    """Run `shopfloor`; every error leaves as one clear message and its exit code, never as a traceback."""
    import signal

    # Until the shell stands, which says so in words, an interrupt ends the process as it would any program. (Who calls may
    # have it ignored.)
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from console.shell import run

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
