"""Where the running services are, as URLs that hold passwords."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from queues.embedded import passwords
from queues.embedded.endpoints import BROKER_SOCKET, Endpoint
from queues.embedded.place import Place

DATABASE = "shopfloor"


@dataclass(frozen=True)
class Services:
    """Running services of one data directory. Printing this shows no password; printing a URL does."""

    data_dir: Path
    postgres: Endpoint
    broker: Endpoint

    def database_url(self, role: str, database: str = DATABASE) -> str:
        """Return the URL of `database` for a login; Unavailable when `role` has no password here."""
        password = passwords.read(Place(self.data_dir), role)
        return (
            f"postgresql://{role}:{password}@/{quote(database, safe='')}"
            f"?host={quote(self.postgres.host, safe='')}&port={self.postgres.port}"
        )

    def superuser_url(self, database: str = "postgres") -> str:
        """Return the URL of the cluster's superuser, for making roles and databases and for nothing else."""
        return self.database_url(passwords.ADMIN, database)

    def passwords(self, roles: list[str]) -> dict[str, str]:
        """Return the password of each of `roles`, for giving it to the database's login of that name."""
        return {role: passwords.read(Place(self.data_dir), role) for role in roles}

    @property
    def broker_url(self) -> str:
        """The URL of the broker, in the form that redis clients take."""
        password = passwords.read(Place(self.data_dir), passwords.BROKER)
        if self.broker.is_socket:
            return f"unix://:{password}@{quote(f'{self.broker.host}/{BROKER_SOCKET}')}?db=0"
        return f"redis://:{password}@{self.broker.host}:{self.broker.port}/0"
