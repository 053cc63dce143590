"""The one lifecycle: stages, states, moves and reasons.

Everything that names a stage, state, move or reason takes it from here: the mover, the CHECKs and the
`legal_moves` rows of the database, the privileges of each role, and the table in the README.

    none/none ─enter─▶ route ─▶ workcell ─▶ artifact ─▶ qa ─▶ (approval) ─▶ apply ─▶ archive
                                    ▲           └────┬────┘                   │
                                    └──── rework ◀───┴────────── drift ◀──────┘
"""

from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """The stage that an item is in."""

    NONE = "none"
    INTAKE = "intake"
    ROUTE = "route"
    WORKCELL = "workcell"
    ARTIFACT = "artifact"
    QA = "qa"
    REWORK = "rework"
    APPLY = "apply"
    ARCHIVE = "archive"


class State(StrEnum):
    """What may happen to an item within its stage."""

    NONE = "none"
    READY = "ready"
    LEASED = "leased"
    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    DEAD = "dead"


TERMINAL = frozenset({State.DONE, State.REFUSED, State.CANCELLED, State.SUPERSEDED, State.DEAD})
ARCHIVED = TERMINAL - {State.DEAD}
"""Ends that leave the hot table at once. Dead letters stay until a person replays or prunes them."""


class Wait(StrEnum):
    """What a waiting item waits for; null in every other state."""

    DEPENDENCY = "dependency"
    APPROVAL = "approval"
    SECOND_APPROVAL = "second_approval"
    HUMAN = "human"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why an item is not moving right now. In order of precedence: the first that holds is the reason."""

    SILENT = "silent"
    LEASED = "leased"
    UNKNOWN = "unknown"
    HUMAN = "human"
    SECOND_APPROVAL = "second_approval"
    APPROVAL = "approval"
    DEPENDENCY = "dependency"
    PAUSED = "paused"
    BACKOFF = "backoff"
    BUDGET = "budget"
    RATE = "rate"
    SLOT = "slot"
    READY = "ready"


REASON_MEANS: dict[Reason, str] = {
    Reason.SILENT: "leased, but its worker has sent no heartbeat for a third of the lease",
    Reason.LEASED: "a live worker is on it",
    Reason.UNKNOWN: "an apply was sent and its effect could not be learned: a person decides",
    Reason.HUMAN: "a cell or the rework lane asked for a person",
    Reason.SECOND_APPROVAL: "one reviewer approved; the tier needs another one",
    Reason.APPROVAL: "a reviewer has to decide on its proposal",
    Reason.DEPENDENCY: "other work has to end first: its batch, or items of its order",
    Reason.PAUSED: "a pause covers it",
    Reason.BACKOFF: "it will be tried again at a known time",
    Reason.BUDGET: "no money is left in a budget that covers it",
    Reason.RATE: "its lane may start no more work in this minute",
    Reason.SLOT: "its lane is at its limit, or no live worker serves it",
    Reason.READY: "a worker will take it next",
}


MAX_HOPS = 5
"""Hops from the first order that caused this one."""


class Role(StrEnum):
    """Who holds a database login, named `shopfloor_<role>`."""

    INTAKE = "intake"
    PROPOSE = "propose"
    REVIEW = "review"
    APPLY = "apply"
    OPERATE = "operate"
    READ = "read"
    SWEEP = "sweep"
    AUDIT = "audit"


class Move(NamedTuple):
    """One legal move. `number` is stored in history and is never reused or renumbered."""

    number: int
    name: str
    from_stage: Stage
    from_state: State
    to_stage: Stage
    to_state: State
    roles: frozenset[Role]

    def __hash__(self) -> int:
        """Return the number: moves are keys on the hot path."""
        return self.number

    @property
    def opens_lease(self) -> bool:
        """True when the move gives a worker a new fence."""
        return self.to_state is State.LEASED

    @property
    def ends(self) -> bool:
        """True when the item stops travelling."""
        return self.to_state in TERMINAL


CLAIMABLE_STAGES = (Stage.ROUTE, Stage.WORKCELL, Stage.ARTIFACT, Stage.QA, Stage.REWORK, Stage.APPLY, Stage.ARCHIVE)
"""Stages that workers claim, in the order of the road."""

_EDGES = (
    (Stage.ROUTE, Stage.WORKCELL),
    (Stage.WORKCELL, Stage.ARTIFACT),
    (Stage.ARTIFACT, Stage.QA),
    (Stage.ARTIFACT, Stage.REWORK),
    (Stage.QA, Stage.REWORK),
    (Stage.QA, Stage.ARCHIVE),
    (Stage.REWORK, Stage.WORKCELL),
    (Stage.APPLY, Stage.ARCHIVE),
)
"""Where finished work of a stage goes next. Into `apply` leads only an approval, see APPROVE and CLEAR."""

_WORK = frozenset({Role.PROPOSE})
_APPLY = frozenset({Role.APPLY})
_PEOPLE = frozenset({Role.OPERATE})


def _worker(stage: Stage) -> frozenset[Role]:
    """Return who works a stage: apply has a process, login and secrets of its own, and may close what it applied."""
    if stage is Stage.APPLY:
        return _APPLY
    return frozenset({Role.PROPOSE, Role.APPLY}) if stage is Stage.ARCHIVE else _WORK


ENTER = Move(1, "enter", Stage.NONE, State.NONE, Stage.ROUTE, State.READY, frozenset({Role.INTAKE}))
HOLD = Move(2, "hold", Stage.NONE, State.NONE, Stage.INTAKE, State.WAITING, frozenset({Role.INTAKE}))
SHELVE = Move(3, "shelve", Stage.NONE, State.NONE, Stage.ARCHIVE, State.DONE, frozenset({Role.INTAKE}))
RELEASE = Move(4, "release", Stage.INTAKE, State.WAITING, Stage.ROUTE, State.READY, frozenset({Role.INTAKE, Role.SWEEP}))
ASK = Move(5, "ask", Stage.QA, State.LEASED, Stage.QA, State.WAITING, _WORK)
CLEAR = Move(6, "clear", Stage.QA, State.LEASED, Stage.APPLY, State.READY, _WORK)
APPROVE = Move(7, "approve", Stage.QA, State.WAITING, Stage.APPLY, State.READY, frozenset({Role.REVIEW, Role.SWEEP}))
REJECT = Move(8, "reject", Stage.QA, State.WAITING, Stage.QA, State.REFUSED, frozenset({Role.REVIEW, Role.SWEEP}))
RETURN = Move(
    9,
    "return",
    Stage.QA,
    State.WAITING,
    Stage.REWORK,
    State.READY,
    frozenset({Role.REVIEW, Role.SWEEP, Role.OPERATE}),
)
LAPSE = Move(10, "lapse", Stage.QA, State.WAITING, Stage.REWORK, State.READY, frozenset({Role.SWEEP}))
DRIFT = Move(11, "drift", Stage.APPLY, State.LEASED, Stage.REWORK, State.READY, _APPLY)
FINISH = Move(12, "finish", Stage.ARCHIVE, State.LEASED, Stage.ARCHIVE, State.DONE, frozenset({Role.PROPOSE, Role.APPLY}))


def _per_stage() -> list[Move]:
    moves = []
    for k, stage in enumerate(CLAIMABLE_STAGES):
        who, base = _worker(stage), 20 + 20 * k
        both = who | {Role.SWEEP}
        moves += [
            Move(base + 0, "claim", stage, State.READY, stage, State.LEASED, who),
            Move(base + 1, "retry", stage, State.LEASED, stage, State.READY, who),
            Move(base + 2, "give_back", stage, State.LEASED, stage, State.READY, who),
            Move(base + 3, "expire", stage, State.LEASED, stage, State.READY, frozenset({Role.SWEEP})),
            Move(base + 4, "bury", stage, State.LEASED, stage, State.DEAD, both),
            Move(base + 5, "refuse", stage, State.LEASED, stage, State.REFUSED, who),
            Move(base + 6, "escalate", stage, State.LEASED, stage, State.WAITING, who),
            Move(base + 7, "requeue", stage, State.READY, stage, State.READY, _PEOPLE),
            Move(base + 8, "requeue", stage, State.WAITING, stage, State.READY, _PEOPLE),
            Move(base + 9, "requeue", stage, State.DEAD, stage, State.READY, _PEOPLE),
        ]
    return moves


def _edges() -> list[Move]:
    moves = []
    for k, (here, there) in enumerate(_EDGES):
        who, base = _worker(here), 200 + 2 * k
        moves.append(Move(base, "hand_on", here, State.LEASED, there, State.READY, who))
        moves.append(Move(base + 1, "carry", here, State.LEASED, there, State.LEASED, who))
    return moves


def _ends() -> list[Move]:
    """Return cancel and supersede from wherever no call to a target can be in flight."""
    moves = []
    newer = frozenset({Role.INTAKE, Role.SWEEP})
    for k, stage in enumerate((Stage.INTAKE, *CLAIMABLE_STAGES)):
        for j, state in enumerate((State.READY, State.LEASED, State.WAITING)):
            if stage is Stage.APPLY and state is State.LEASED:
                continue
            if stage is Stage.INTAKE and state is not State.WAITING:
                continue  # nothing is worked on there: items only wait for their batch
            base = 300 + 10 * k + 2 * j
            moves.append(Move(base, "cancel", stage, state, stage, State.CANCELLED, _PEOPLE))
            moves.append(Move(base + 1, "supersede", stage, state, stage, State.SUPERSEDED, newer))
        moves.append(Move(300 + 10 * k + 6, "send_back", stage, State.WAITING, Stage.REWORK, State.READY, _PEOPLE))
    return [move for move in moves if not (move.name == "send_back" and move.from_stage in (Stage.INTAKE, Stage.QA))]


MOVES: tuple[Move, ...] = (
    ENTER, HOLD, SHELVE, RELEASE, ASK, CLEAR, APPROVE, REJECT, RETURN, LAPSE, DRIFT, FINISH,
    *_per_stage(), *_edges(), *_ends(),
)  # fmt: skip
BY_NUMBER: dict[int, Move] = {move.number: move for move in MOVES}
_BY_NAME: dict[tuple[str, Stage, State, Stage], Move] = {
    (move.name, move.from_stage, move.from_state, move.to_stage): move for move in MOVES
}

MOVE_MEANS: dict[str, str] = {
    "enter": "an accepted row becomes an item",
    "hold": "an accepted row waits until its batch is complete",
    "shelve": "a context row is indexed and closed without work",
    "release": "the batch is complete: held items may start",
    "claim": "a worker opens a lease",
    "carry": "the worker that finished a stage goes on with the next one under a new fence",
    "hand_on": "finished in this stage; any worker of the next lane may take it",
    "retry": "an accident; due again after a backoff, counted by cause",
    "give_back": "a worker returns what it did not start; counts nothing",
    "expire": "the lease ended without an answer; counted as a crash",
    "bury": "a ceiling was reached; kept as a dead letter until a person acts",
    "refuse": "the stage declined the item for a typed reason",
    "escalate": "a person has to answer",
    "ask": "a clearance was opened; waits for reviewers",
    "clear": "the tier needs nobody, by the pod's policy",
    "approve": "the clearance has the decisions that its tier demands",
    "reject": "a reviewer rejected the proposal",
    "return": "a reviewer sent the proposal back with findings",
    "lapse": "the proposal expired unanswered; it is redone",
    "drift": "the target changed in a field that the decision rests on; it is redone",
    "finish": "closed and moved out of the hot table",
    "requeue": "an operator made it due now",
    "send_back": "an operator sent a waiting item to rework",
    "cancel": "an operator ended it",
    "supersede": "a newer revision of the same subject arrived",
}


CARRIES: dict[Move, Move] = {
    step: _BY_NAME["carry", step.from_stage, step.from_state, step.to_stage] for step in MOVES if step.name == "hand_on"
}
"""What a `hand_on` becomes when the worker that finished the stage goes on with the next one itself."""


def move(name: str, stage: Stage, state: State, to: Stage | None = None) -> Move:
    """Return the legal move `name` from stage/state, to stage `to` (default: the stage it is in).

    Raises KeyError for a move that the lifecycle does not have.
    """
    return _BY_NAME[name, stage, state, to or stage]


def moves_of(role: Role) -> tuple[int, ...]:
    """Return the numbers of the moves that a database role may record, ascending."""
    return tuple(sorted(m.number for m in MOVES if role in m.roles))


def lane_of(stage: Stage, *, cell: str = "", applier: str = "") -> str:
    """Return the lane that a stage's work queues in, such as `route`, `cell.issue_review` or `apply.github`."""
    if stage is Stage.WORKCELL:
        return f"cell.{cell}"
    if stage is Stage.APPLY:
        return f"apply.{applier}"
    return stage.value


def stage_of(lane: str) -> Stage:
    """Return the stage whose work queues in a lane. Raises ValueError for what is none."""
    head = lane.partition(".")[0]
    return {"cell": Stage.WORKCELL, "apply": Stage.APPLY}.get(head) or Stage(head)
