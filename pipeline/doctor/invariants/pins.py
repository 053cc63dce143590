"""What published contracts demand, read once for the checks that compare items with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.attempts import CEILINGS, Cause
from contracts.errors import BadInput
from contracts.language import Contract, parse_contract
from queues.database import Connection

ROUND_CAUSES = (Cause.CONTRACT, Cause.QA, Cause.DRIFT)
"""What may send an item back to its cell without a person."""
_NEEDED = {"none": 0, "single": 1, "dual": 2}


@dataclass(frozen=True, slots=True)
class Pins:
    """The published contracts by their row, those that can be read."""

    contracts: Mapping[int, Contract]

    def limits(self) -> dict[str, list[Any]]:
        """Return parallel columns: name, version, and how many rounds an item may go through on its own."""
        rows = [(c.name, str(c.version), sum(c.ceilings[cause] for cause in ROUND_CAUSES)) for c in self.contracts.values()]
        return _columns(("names", "versions", "rounds"), rows)

    def ceilings(self) -> dict[str, list[Any]]:
        """Return parallel columns: name, version, cause and ceiling; the defaults under an empty name."""
        rows: list[tuple[Any, ...]] = [("", "", cause.value, ceiling) for cause, ceiling in CEILINGS.items()]
        rows += [(c.name, str(c.version), cause.value, c.ceilings[cause]) for c in self.contracts.values() for cause in Cause]
        return _columns(("names", "versions", "causes", "ceilings"), rows)

    def tiers(self) -> dict[str, list[Any]]:
        """Return parallel columns: name, version, action and the decisions that it needs."""
        rows = [
            (c.name, str(c.version), action, _NEEDED[clause.tier]) for c in self.contracts.values() for action, clause in c.proposes.items()
        ]
        return _columns(("names", "versions", "actions", "needed"), rows)


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def read_pins(conn: Connection) -> Pins:
    """Return the published contracts. One that cannot be read is left out: invariant 10 says so."""
    found = {}
    for contract_id, body in conn.execute("SELECT id, body FROM contracts"):
        try:
            found[contract_id] = parse_contract(bytes(body))
        except BadInput:
            continue
    return Pins(found)
