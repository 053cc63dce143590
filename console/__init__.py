"""Where people stand: the command line. Parses, calls one function, renders."""

VERSION = "0.1.0"


def prepare_streams() -> None:
    """Open on /dev/null what the caller closed (`>&-`): the next socket would take its number, and be written to as output."""
    import io
    import os
    import sys

    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    sys.stdin = sys.stdin or os.fdopen(0, "r")
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding does not have is shown by its number: no sign may end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run `shopfloor`; every error leaves as one clear message and its exit code, never as a traceback."""
    import signal

    prepare_streams()
    # Until the shell runs, which says so in words, an interrupt ends the process as it would any program. (Who calls may
    # have it ignored.)
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from console.shell import run

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
