"""The floor file: read whole or refused whole, with the line and what to write."""

import pytest
from contracts.errors import BadFloor, ExpressionFailed, NotFound
from contracts.floor import LaneLimits, RouteDecision, parse_floor

FLOOR = """\
floor: 1
pods: {maintainers: {autonomy: draft_approve}}
flows:
  issue-sweep:
    pod: maintainers
    takes: {shape: github_issue, subject: key, revision: updated_at}
    after: intake
    context: "row.state == 'closed'"
    index: {title: title, body: body}
    route:
      - {name: urgent, when: "'security' in row.labels", cell: triage, priority: 0}
      - {name: old, when: "days_between(row.created_at, as_of) > 30.0", cell: issue_review}
      - {name: rest, refuse: route.unsuitable}
    applier: tracker
  plain:
    pod: maintainers
    takes: {shape: json, subject: id, revision: version}
    route: [{name: all, cell: triage}]
lanes:
  cell.issue_review: {max_active: 400}
  apply.tracker: {per_minute: 60}
"""
AS_OF = "2024-03-01T00:00:00Z"


def row(**changes):
    return {"state": "open", "labels": [], "created_at": "2024-02-20T00:00:00Z", "body": "x"} | changes


def test_a_floor_holds_what_its_file_says():
    floor = parse_floor(FLOOR, "floor.yaml")
    flow = floor.flow("issue-sweep")
    assert dict(floor.pods) == {"maintainers": "draft_approve"}
    assert (flow.name, flow.pod, flow.shape) == ("issue-sweep", "maintainers", "github_issue")
    assert (flow.subject_field, flow.revision_field) == ("key", "updated_at")
    assert flow.after_intake
    assert flow.cells == ("triage", "issue_review")
    assert flow.applier == "tracker"
    assert floor.lanes["cell.issue_review"] == LaneLimits(max_active=400)
    assert floor.lanes["apply.tracker"] == LaneLimits(per_minute=60)
    plain = floor.flow("plain")
    assert (plain.after_intake, plain.context, dict(plain.index), plain.applier) == (False, None, {}, "")


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        (row(labels=["security"]), RouteDecision("urgent", "triage", None, 0)),
        (row(labels=["security"], created_at="2020-01-01T00:00:00Z"), RouteDecision("urgent", "triage", None, 0)),
        (row(created_at="2020-01-01T00:00:00Z"), RouteDecision("old", "issue_review", None, 5)),
        (row(), RouteDecision("rest", None, "route.unsuitable", 5)),
    ],
)
def test_the_first_rule_that_matches_decides(given, decision):
    assert parse_floor(FLOOR, "floor.yaml").decide_route("issue-sweep", given, AS_OF) == decision


def test_a_rule_without_an_answer_decides_nothing():
    with pytest.raises(ExpressionFailed, match="no field labels"):
        parse_floor(FLOOR, "floor.yaml").decide_route("issue-sweep", {"state": "open"}, AS_OF)


def test_context_rows_are_told_by_their_expression():
    flow = parse_floor(FLOOR, "floor.yaml").flow("issue-sweep")
    assert flow.is_context(row(state="closed"))
    assert not flow.is_context(row())
    assert not parse_floor(FLOOR, "floor.yaml").flow("plain").is_context({})


def test_an_unknown_flow_is_named_with_its_nearest():
    with pytest.raises(NotFound, match="did you mean 'issue-sweep'") as refused:
        parse_floor(FLOOR, "floor.yaml").flow("issues-sweep")
    assert refused.value.exit_code == 3


def test_stored_bytes_are_the_same_floor():
    floor = parse_floor(FLOOR, "floor.yaml")
    again = parse_floor(floor.body, "floor 7")
    assert again == floor
    assert again.sha256 == floor.sha256
    assert parse_floor(FLOOR.replace("400", "401"), "x") != floor
    assert parse_floor("# a comment\n" + FLOOR, "x").sha256 == floor.sha256


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "pod: maintainers\n    takes: {shape: g",
            "pod: maintaner\n    takes: {shape: g",
            "line 5, /flows/issue-sweep/pod: no pod 'maintaner': did you mean",
        ),
        ("autonomy:", "autonmy:", "line 2, /pods/maintainers/autonmy: not allowed here: did you mean autonomy?"),
        ("draft_approve", "draft_aprove", 'expected one of "report_only", "draft_approve", "full_auto"'),
        ("    route:\n", "    rout:\n", "/flows/issue-sweep/rout: not allowed here: did you mean route?"),
        ("floor: 1", "floor: 2", "line 1, /floor: expected 1, got 2"),
        ("floor: 1", "flor: 1", "did you mean floor?"),
        ("priority: 0", "priority: 10", "at most 9"),
        ("priority: 0", "refuse: x", "has both of cell and refuse"),
        ("cell: triage, priority: 0", "priority: 0", "has neither of cell and refuse"),
        ("refuse: route.unsuitable", "refuse: route.unsuitable, priority: 1", "orders nothing"),
        (
            "{name: rest, ",
            "{name: rest, when: 'true', ",
            "line 13, /flows/issue-sweep/route/2: the last rule has a `when`",
        ),
        ("name: urgent, when: \"'security' in row.labels\"", "name: urgent", "no rule after it is ever reached"),
        ("name: old", "name: urgent", "a second rule named 'urgent'"),
        ("row.labels", "rwo.labels", "line 11, /flows/issue-sweep/route/0/when: unknown variable 'rwo'"),
        ("row.state", "as_of", "/context: unknown variable 'as_of'"),
        ("row.state ==", "row.state =", "not a CEL expression"),
        ("after: intake", "after: no", "line 7, column 12: no may mean a truth value or a word: write false"),
        ("after: intake", "after: route", "/after: expected"),
        (
            "cell.issue_review:",
            "cell.issue_reveiw:",
            "/lanes/cell.issue_reveiw: no flow uses a lane 'cell.issue_reveiw': did you mean",
        ),
        ("max_active: 400", "max_active: 0", "at least 1"),
        ("max_active: 400", "max_active: -1.5", "expected an integer"),
        ("lanes:\n", "lanes:\n  qa: {}\n", "at least 1 fields"),
        ("subject: key, ", "", "/takes/subject: missing"),
        ("index: {title: title, ", "index: {", "/index/title: missing"),
        ("  plain:", "  issue-sweep:", "line 15, column 3: key 'issue-sweep' is there twice"),
        ("  plain:", "  Plain Flow:", "name is not allowed"),
    ],
)
def test_a_bad_floor_is_refused_with_its_line_and_what_to_write(old, new, says):
    assert old in FLOOR
    with pytest.raises(BadFloor) as refused:
        parse_floor(FLOOR.replace(old, new, 1), "floor.yaml")
    assert says in refused.value.message
    assert refused.value.message.startswith("floor.yaml")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "[]", "1", "floor: 1", "null", "pods: {}\nflows: {}\nfloor: 1", "\x00", b"\xff\xfe\x00"])
def test_what_is_no_floor_at_all_is_refused(text):
    with pytest.raises(BadFloor):
        parse_floor(text, "floor.yaml")
