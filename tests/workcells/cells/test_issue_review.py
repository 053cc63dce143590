"""The cell issue_review against its examples, its contract and its promises."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from contracts.documents import load_yaml
from contracts.errors import BadContract
from contracts.expressions import Expression
from contracts.nouns import Draft, Finding, Proposal, Refusal
from contracts.schemas import Validator, check_schema
from workcells.bench import ItemBench, call_key
from workcells.cells.issue_review.cell import review, wants
from workcells.registry import load_cell

FOLDER = Path(__file__).parents[3] / "workcells" / "cells" / "issue_review"
CONTRACT = load_yaml((FOLDER / "contract.yaml").read_text(), "contract.yaml", error=BadContract)
EXAMPLES = sorted(path.name.removesuffix(".in.json") for path in (FOLDER / "examples").glob("*.in.json"))
AS_OF = "2026-06-30T12:00:00Z"
REPO = "harbor/lantern"


def bench(tools: Sequence[dict[str, Any]], findings: Sequence[Finding] = ()) -> ItemBench:
    answers = {call_key(call["tool"], call["arguments"]): call["answer"] for call in tools}
    return ItemBench(allowed=frozenset(CONTRACT["tools"]["allow"]), tools={}, answers=answers, as_of=AS_OF, findings=findings)


def load(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return tuple(json.loads((FOLDER / "examples" / f"{name}.{end}.json").read_text()) for end in ("in", "out"))  # type: ignore[return-value]


def run(name: str, findings: Sequence[Finding] = ()) -> Any:
    example, _ = load(name)
    return review(example["item"], bench(example["tools"], findings))


def issue(**fields: Any) -> dict[str, Any]:
    return load("fixed_by_keyword")[0]["item"] | fields


def pull(number: int, body: str, **fields: Any) -> dict[str, Any]:
    row = load("fixed_by_keyword")[0]["tools"][0]["answer"][0]
    return row | {"key": f"{REPO}#{number}", "number": number, "body": body} | fields


def decide(item: dict[str, Any], *naming: dict[str, Any], alike: Sequence[dict[str, Any]] = ()) -> Any:
    tools = [{"tool": tool, "arguments": arguments, "answer": []} for tool, arguments in wants(item)]
    tools[0]["answer"] = list(naming)
    tools[1]["answer"] = list(alike)
    about = {"limit": 50}
    tools += [{"tool": "mentions_of", "arguments": {"key": row["key"]} | about, "answer": []} for row in [*naming, *alike]]
    return review(item, bench(tools))


def objections(item: dict[str, Any], value: dict[str, Any], as_of: str = AS_OF) -> list[str]:
    """Return the names of the contract's rules that the value fails."""
    known = {"item": item, "output": value, "as_of": as_of}
    rules = [rule for rule in CONTRACT["qa"] if rule["check"] == "rule"]
    return [rule["name"] for rule in rules if not Expression(rule["expr"], variables=set(known)).is_true(known)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_comes_out_as_written(name):
    example, expected = load(name)
    outcome = run(name)
    assert {"outcome": type(outcome).__name__.lower()} | outcome.model_dump(mode="json") == expected
    assert example["as_of"] == AS_OF


def test_the_folder_is_a_cell_and_nothing_in_it_is_left_unread():
    loaded = load_cell(FOLDER)
    assert loaded.source.warnings == ()
    assert loaded.contract.name == "issue_review"
    assert [example.name for example in loaded.source.examples] == EXAMPLES
    assert loaded.code.wants is not None


def test_there_are_examples_of_every_finding_and_of_silence():
    found = {run(name).value["finding"] for name in EXAMPLES}
    assert found == set(CONTRACT["gives"]["schema"]["properties"]["finding"]["enum"])
    assert len(EXAMPLES) >= 8


def test_the_contract_s_schemas_are_sound():
    check_schema(CONTRACT["takes"]["schema"], name="github_issue@1", purpose="input")
    check_schema(CONTRACT["gives"]["schema"], name="issue_decision@1", purpose="output")
    for action, clause in CONTRACT["proposes"].items():
        check_schema(clause["payload"], name=action, purpose="output")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_the_contract(name):
    example, _ = load(name)
    assert Validator(CONTRACT["takes"]["schema"]).findings(example["item"]) == ()
    outcome = run(name)
    assert Validator(CONTRACT["gives"]["schema"]).findings(outcome.value) == ()
    if isinstance(outcome, Proposal):
        clause = CONTRACT["proposes"][outcome.action.name]
        assert Validator(clause["payload"]).findings(outcome.action.payload) == ()
        assert set(outcome.action.precondition) == set(clause["depends_on"])
        assert objections(example["item"], outcome.value) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_verdict_evidence_and_action_say_the_same(name):
    outcome = run(name)
    value = outcome.value
    assert outcome.confidence == value["confidence"]
    assert [piece.model_dump() for piece in outcome.evidence] == value["evidence"]
    if isinstance(outcome, Draft):
        assert value["decision"]["do"] == "keep_open"
    elif value["decision"]["do"] == "close":
        assert outcome.action.payload["comment"]["body"] == value["decision"]["comment"]
        assert outcome.action.payload.get("state_reason") == value["decision"]["state_reason"]
    else:
        assert outcome.action.payload == {"body": value["decision"]["question"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_quote_resolves_in_the_row_that_it_names(name):
    example, _ = load(name)
    rows = {row["key"]: row for call in example["tools"] for row in call["answer"]}
    for piece in run(name).evidence:
        if piece.source.kind == "quote":
            assert rows[piece.source.subject][piece.source.field][piece.source.start : piece.source.end] == piece.source.text


def test_the_looked_up_calls_are_the_calls_that_are_made():
    example, _ = load("hinted_at")
    called: set[str] = set()

    class Noting(ItemBench):
        def call(self, tool: str, **arguments: Any) -> Any:
            called.add(tool)
            return super().call(tool, **arguments)

    answers = {call_key(call["tool"], call["arguments"]): call["answer"] for call in example["tools"]}
    review(example["item"], Noting(allowed=frozenset(CONTRACT["tools"]["allow"]), tools={}, answers=answers, as_of=AS_OF))
    wanted = {call_key(tool, arguments) for tool, arguments in wants(example["item"])}
    assert wanted <= {call_key(call["tool"], call["arguments"]) for call in example["tools"]}
    assert called == {"mentions_of", "search_subjects"}


def test_a_closed_item_is_refused():
    assert isinstance(decide(issue(state="closed")), Refusal)


@pytest.mark.parametrize(
    ("item", "naming"),
    [
        ({}, [pull(47, "Fixes #41", merged_at=None, state="closed")]),
        ({}, [pull(47, "Fixes #41", merged_at=None, state="open")]),
        ({}, [pull(47, "Fixes #41", merged_at="2026-03-01T00:00:00Z")]),
        ({}, [pull(47, "Fixes #41", author="bumper[bot]")]),
        ({}, [pull(47, "Fixes #41", title='Revert "Accept empty files"')]),
        ({}, [pull(47, "\n".join(f"- fixes #{number}" for number in range(35, 45)))]),
        ({}, [pull(47, "Fixes #41", kind="issue")]),
        ({"state_reason": "reopened"}, [pull(47, "Fixes #41")]),
        ({"title": "Umbrella: empty files"}, [pull(47, "Fixes #41")]),
        ({"labels": ["tracking"]}, [pull(47, "Fixes #41")]),
        ({"body": "- [x] reader\n- [ ] writer\n- [ ] docs"}, [pull(47, "Fixes #41")]),
        ({"body": "- [ ] #40"}, [pull(47, "Fixes #41")]),
        ({"body": "Edit: still broken with 2.4", "updated_at": "2026-05-01T00:00:00Z"}, [pull(47, "Fixes #41")]),
        ({}, [pull(47, "Fixes #41"), pull(48, "Partially fixes #41")]),
        ({}, [pull(47, "Fixes #41"), pull(49, "Closes #41", state="open", merged_at=None)]),
        ({}, [pull(47, "Fixes #41. Well, it does not fix #41 on Windows")]),
    ],
)
def test_nothing_is_proposed_against_an_objection(item, naming):
    outcome = decide(issue(**item), *naming)
    assert isinstance(outcome, Draft)
    assert outcome.value["decision"]["do"] == "keep_open"


def test_the_control_of_the_objections_is_closed():
    outcome = decide(issue(), pull(47, "Fixes #41"))
    assert outcome.value["decision"]["do"] == "close"
    assert outcome.action.target == "harbor/lantern#41"


def test_many_hints_make_a_theme_and_no_question():
    hints = [pull(number, "Addresses #41") for number in range(50, 54)]
    assert decide(issue(), hints[0]).value["decision"]["do"] == "ask"
    assert decide(issue(), *hints).value["decision"]["do"] == "keep_open"


def test_fixing_what_a_pull_request_brought_does_not_close_the_pull_request():
    item = load("pull_superseded")[0]["item"]
    assert decide(item, pull(171, "Fixes #160")).value["finding"] == "nothing_found"
    assert decide(item, pull(171, "Closes #160")).value["decision"]["do"] == "close"


def test_a_pull_request_that_was_worked_on_after_the_merge_is_asked_about():
    item = load("pull_superseded")[0]["item"] | {"updated_at": "2026-06-01T00:00:00Z"}
    assert decide(item, pull(171, "Supersedes #160")).value["decision"]["do"] == "ask"


@pytest.mark.parametrize(
    ("twin", "do"),
    [
        ({}, "close"),
        ({"author": "somebody-else"}, "ask"),
        ({"title": "Add lighthouse catalogue for the North Sea"}, "keep_open"),
        ({"title": "Add lighthouse catalogue for the Baltic, part 2"}, "keep_open"),
        ({"matched": 1}, "keep_open"),
    ],
)
def test_a_title_counts_only_when_it_is_the_same(twin, do):
    example, _ = load("pull_sent_again")
    (row,) = next(call["answer"] for call in example["tools"] if call["tool"] == "search_subjects")
    assert decide(example["item"], alike=[row | twin]).value["decision"]["do"] == do


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["duplicate"], "duplicate"),
        (["resolution: duplicate"], "duplicate"),
        (["Won't Fix"], "not_planned"),
        (["wontfix", "duplicate"], "duplicate"),
        (["status/invalid"], "not_planned"),
    ],
)
def test_settling_labels_are_known_in_many_spellings(labels, reason):
    assert decide(issue(labels=labels)).value["decision"]["state_reason"] == reason


@pytest.mark.parametrize("labels", [["bug"], ["duplicated-code"], ["not duplicate"], ["invalid input"], []])
def test_other_labels_settle_nothing(labels):
    assert decide(issue(labels=labels)).value["finding"] == "nothing_found"


def test_a_settling_label_on_wanted_work_is_asked_about():
    assert decide(issue(labels=["wontfix", "help wanted"])).value["decision"]["do"] == "ask"
    at_work = pull(47, "For #41", state="open", merged_at=None)
    assert decide(issue(labels=["wontfix"]), at_work).value["decision"]["do"] == "ask"


def test_nothing_that_a_stranger_wrote_reaches_the_tracker_or_the_summary():
    hostile = "AKIAIOSFODNN7EXAMPLE <script>@everyone</script> ![x](javascript:0) \u202e"
    row = pull(47, f"{hostile}\nFixes #41", title=hostile, author="evil]", labels=[hostile])
    for outcome in (
        decide(issue(title=hostile, body=hostile), row),
        decide(issue(title=hostile, body=hostile, labels=["wontfix", hostile])),
        decide(issue(title=hostile, body=hostile), row | {"body": "Addresses #41"}),
    ):
        spoken = json.dumps([outcome.value["decision"], outcome.value["summary"], outcome.action.payload])
        assert not any(piece in spoken for piece in ("AKIA", "<", "@", "javascript", "evil", "\\u202e"))


def test_a_quote_with_what_may_be_a_secret_shrinks_to_the_reference():
    row = pull(47, "Addresses the leak of AKIAIOSFODNN7EXAMPLE in #41")
    outcome = decide(issue(), row)
    assert [piece.source.text for piece in outcome.evidence if piece.source.kind == "quote"] == ["#41"]


@pytest.mark.parametrize(
    ("item", "as_of", "rule"),
    [
        ({"labels": ["Security"]}, AS_OF, "protected_label"),
        ({"labels": ["area: roadmap"]}, AS_OF, "protected_label"),
        ({"labels": ["do not close"]}, AS_OF, "protected_label"),
        ({"author_association": "OWNER"}, AS_OF, "maintainer_authored"),
        ({"author_association": "COLLABORATOR"}, AS_OF, "maintainer_authored"),
        ({"author_association": None}, AS_OF, "maintainer_authored"),
        ({"locked": True}, AS_OF, "locked"),
        ({"state_reason": "reopened"}, AS_OF, "reopened"),
        ({"created_at": "2026-04-01T00:00:00Z"}, "2026-04-14T00:00:00Z", "age_floor"),
        ({}, "2026-04-13T16:00:00Z", "merge_floor"),
        ({"state": "closed"}, AS_OF, "still_open"),
    ],
)
def test_the_gate_objects_to_a_close_that_policy_forbids(item, as_of, rule):
    value = run("fixed_by_keyword").value
    assert objections(issue(), value) == []
    assert objections(issue(**item), value, as_of) == [rule]


def test_the_gate_asks_for_confidence_and_for_an_old_label():
    value = run("fixed_by_keyword").value
    assert objections(issue(), value | {"confidence": 0.79}) == ["confidence_floor"]
    labelled = run("labelled_duplicate").value
    fresh = load("labelled_duplicate")[0]["item"] | {"updated_at": "2026-06-29T00:00:00Z"}
    assert objections(fresh, labelled) == ["label_floor"]


def test_policy_never_stops_an_item_that_stays_open():
    value = run("named_only_in_quotes_and_code").value
    item = issue(labels=["security"], author_association="OWNER", locked=True, created_at="2026-06-29T00:00:00Z")
    assert objections(item, value) == []


def test_what_the_gate_objected_to_is_kept_open_and_reported():
    objected = Finding(code="policy.maintainer_authored", message="…")
    outcome = run("fixed_by_keyword", [objected])
    assert isinstance(outcome, Draft)
    assert outcome.value["finding"] == "resolved_by_merged_pr"
    assert outcome.value["decision"] == {"do": "keep_open", "why": "policy: maintainer authored"}
    assert outcome.value["basis"]["key"] == "harbor/lantern#47"
    assert Validator(CONTRACT["gives"]["schema"]).findings(outcome.value) == ()
    assert len(outcome.evidence) == 2


def test_every_policy_that_sends_work_back_carries_a_code_that_the_cell_understands():
    rules = [rule for rule in CONTRACT["qa"] if rule["check"] == "rule" and rule["on_fail"] == "rework"]
    assert rules
    assert all(rule["code"] == f"policy.{rule['name']}" for rule in rules)


def test_the_answer_does_not_depend_on_the_order_of_the_rows():
    rows = [pull(47, "Fixes #41"), pull(46, "Addresses #41"), pull(45, "Closes #41", merged_at="2026-04-09T00:00:00Z")]
    assert decide(issue(), *rows) == decide(issue(), *reversed(rows))
