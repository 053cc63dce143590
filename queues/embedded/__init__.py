"""shopfloor's own PostgreSQL and Valkey: one data directory, shared by every command that names it.

`attach_or_start` is what a command calls; `attach` never starts anything; `inspect` is what `status` and `doctor` show.
The supervisor keeps no process of its own: the servers outlive the command that started them, until `stop`.
"""

from queues.embedded.place import default_data_dir, write_atomically
from queues.embedded.services import Services
from queues.embedded.supervisor import Inspection, ServerState, attach, attach_or_start, check_owner, inspect, stop

__all__ = [
    "Inspection",
    "ServerState",
    "Services",
    "attach",
    "attach_or_start",
    "check_owner",
    "default_data_dir",
    "inspect",
    "stop",
    "write_atomically",
]
