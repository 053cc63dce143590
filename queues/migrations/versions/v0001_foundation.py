"""The foundation: tenants, the road, history, proposals and decisions, row security, the inspect views."""

from importlib.resources import files
from string import Template

from alembic import op
from sqlalchemy import text
from contracts.attempts import CEILINGS, Cause
from contracts.lifecycle import CLAIMABLE_STAGES, MAX_HOPS, MOVES, TERMINAL, Role, Stage, Wait, moves_of
from contracts.proposals import ApplyState, ClearanceState, ProposalState
from queues import predicates
from queues.schema import OWNER, PREFIX, SCHEMA

revision = "0001"
down_revision = None

MOVABLE = (
    "claim_id, moved_at, due_at, fence, move_no, contract_id, priority, crashes, transients, throttles, contract_breaks, qa_rejects, "
    "drifts, rounds, stage, state, lane, ready_lane, wait, waiting_on"
)
"""Columns of a queue row that a move may change; workspace, order, pod and flow never change."""

SCRIPTS = (
    "0001_intake_tables",
    "0001_queue_tables",
    "0001_result_tables",
    "0001_subjects",
    "0001_search",
    "0001_guards",
    "0001_acts",
    "0001_reads",
    "0001_security",
    "0001_reasons",
    "0001_inspect",
)
_AS_WRITTEN = ("0001_subjects", "0001_search")
"""Scripts without placeholders."""


def _listed(values: object) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))  # type: ignore[call-overload]


def _move_policies() -> str:
    """Return one restrictive policy per role: the moves that it may record."""
    return "\n".join(
        f"CREATE POLICY moves_of_{role} ON moves AS RESTRICTIVE FOR INSERT TO {PREFIX}{role} "
        f"WITH CHECK (legal IN ({', '.join(map(str, moves_of(role)))}));"
        for role in Role
        if moves_of(role)
    )


def upgrade() -> None:
    everyone = [f"{PREFIX}{role}" for role in Role]
    writers = [f"{PREFIX}{role}" for role in (Role.INTAKE, Role.PROPOSE, Role.APPLY)]
    tenants = [name for name in everyone if name not in (f"{PREFIX}sweep", f"{PREFIX}audit")]
    values = {
        "schema": SCHEMA,
        "owner": OWNER,
        "prefix": PREFIX,
        "everyone": ", ".join(everyone),
        "tenants": ", ".join(tenants),
        "writers": ", ".join(writers),
        "screens": ", ".join(name for name in tenants if name not in writers),
        "stages": _listed((Stage.INTAKE, *CLAIMABLE_STAGES)),
        "waits": _listed(Wait),
        "terminal": _listed(TERMINAL),
        "causes": _listed(Cause),
        "proposal_states": _listed(ProposalState),
        "clearance_states": _listed(ClearanceState),
        "apply_states": _listed(ApplyState),
        "legal": ", ".join(str(move.number) for move in MOVES),
        "movable": f"({MOVABLE})",
        "into_apply": ", ".join(str(move.number) for move in MOVES if move.to_stage is Stage.APPLY is not move.from_stage),
        "ceilings": " ".join(f"WHEN '{cause}' THEN {ceiling}" for cause, ceiling in CEILINGS.items()),
        "max_depth": str(MAX_HOPS),
        "move_policies": _move_policies(),
        "paused": predicates.PAUSED,
        "due": predicates.DUE,
        "over_rate": predicates.OVER_RATE,
        "at_limit": predicates.AT_LIMIT,
        "served": predicates.SERVED,
        "silent": predicates.SILENT,
        "unconfirmed": predicates.UNCONFIRMED,
    }
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    for name in SCRIPTS:
        source = files("queues.migrations").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
        # psycopg's own execute: the scripts hold colons and percent signs that are not parameters.
        driver.execute(source if name in _AS_WRITTEN else Template(source).substitute(values))
    op.get_bind().execute(
        text("INSERT INTO legal_moves VALUES (:number, :move, :from_stage, :from_state, :to_stage, :to_state)"),
        [
            {
                "number": move.number,
                "move": move.name,
                "from_stage": move.from_stage.value,
                "from_state": move.from_state.value,
                "to_stage": move.to_stage.value,
                "to_state": move.to_state.value,
            }
            for move in MOVES
        ],
    )
    op.get_bind().exec_driver_sql("SELECT extend_partitions()")


def downgrade() -> None:
    raise NotImplementedError("a schema is never moved back: restore a backup")
