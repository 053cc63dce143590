"""Containment: limits that keep a cell from harming other processes."""

import os
import resource

import structlog

log = structlog.get_logger()

_MIB = 1024 * 1024
_FORKED = 71
"""Exit code of a process that a cell forked off its worker."""


def contain(memory_mb: int) -> None:
    """Limit this process's memory, 0 for no limit, and end whatever is forked off it at once.

    At the limit the item being worked on fails, where otherwise the kernel would choose a victim: the database, say. A forked copy of a
    worker would hold its connections and go on with its claim. Programs that a cell starts are no copies: they run.
    """
    if memory_mb:
        # Data and not address space: what is only reserved is not memory.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = memory_mb * _MIB
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    os.register_at_fork(before=lambda: log.warning("worker.forked"), after_in_child=lambda: os._exit(_FORKED))
