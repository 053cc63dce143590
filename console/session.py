"""What a command works with: the shop, a connection as the role that the verb needs, the workspace, the actor."""

import getpass
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from contracts.errors import BadInput, Denied
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop, open_shop
from queues.database import Connection


@dataclass(frozen=True, slots=True)
class Session:
    """One command's hold on a shop."""

    shop: Shop
    conn: Connection
    workspace: UUID
    actor: str
    """Name of the actor that acts; in history and audit."""
    token: str
    """Proof of the actor for decisions; empty when nobody is logged in."""


def kept_token(shop: Shop) -> str:
    """Return the token to act with: the setting, else the one that `login` kept, else the embedded default's own; or empty."""
    if shop.settings.token is not None:
        return shop.settings.token.reveal()
    name = getpass.getuser()
    for path in (login_path(), shop.data_dir / "secrets" / f"token.{shop.settings.workspace}.{name}"):
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def login_path() -> Path:
    """Return where `login` keeps a token for this OS user."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "shopfloor" / "token"


@contextmanager
def session(role: Role, *, start: bool = False, needs: str | None = "") -> Iterator[Session]:
    """Open a session as one database role. Works with every worker down; starts the services only with `start`.

    With `needs`, the actor has to hold that role in the workspace; without, any role, or be nobody where the machine is the
    only door; with None, none at all. Raises Denied otherwise.
    """
    from pipeline.access.tokens import actor_of

    shop = open_shop(start=start, acts=role not in (Role.READ, Role.AUDIT))
    with shop.connect(role, name=f"shopfloor-{role}") as conn:
        workspace = shop.workspace_id(conn)
        token = kept_token(shop)
        name = getpass.getuser()
        roles: Sequence[str] = ()
        if token and role in (Role.INTAKE, Role.REVIEW, Role.OPERATE, Role.READ):
            actor = actor_of(conn, token)
            if actor.workspace_id != workspace:
                raise Denied(
                    f"the token belongs to another workspace than {shop.settings.workspace}",
                    hint="check SHOPFLOOR_WORKSPACE and SHOPFLOOR_TOKEN",
                )
            name, roles = actor.name, actor.roles
            if not roles and needs is not None:
                raise Denied(
                    f"{name} holds no role in workspace {shop.settings.workspace}",
                    hint=f"ask an admin: shopfloor token new --actor {shlex.quote(name)} --role reader",
                    code="denied.role",
                )
        if needs and needs not in roles and "admin" not in roles:
            raise Denied(
                f"{name} does not hold the role {needs}",
                hint="ask an admin: shopfloor token new --actor NAME --role " + needs,
                code="denied.role",
            )
        yield Session(shop, conn, workspace, name, token)


def one_id(text: str) -> UUID:
    """Return an id typed by a person. Raises BadInput."""
    try:
        return UUID(text)
    except ValueError:
        raise BadInput(f"{text[:60]!r} is not an id: expected something like 0199a1b2-…", hint="shopfloor items") from None
