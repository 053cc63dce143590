"""The contract of a cell: read whole or refused whole, from a folder or from stored bytes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.canonical import canonical
from contracts.contract import Contract, parse_contract, read_contract
from contracts.errors import BadContract, ExpressionFailed, NotFound
from contracts.language import load_cell_folder
from contracts.nouns import Proposal, Refusal

CONTRACT = """\
contract: issue_review
version: 1.4.0
summary: Finds what was settled already.
takes:
  name: issue@1
  schema:
    type: object
    additionalProperties: false
    required: [key, state, body]
    properties: {key: {type: string}, state: {enum: [open, closed]}, body: {type: string}, created_at: {type: string}}
gives:
  name: decision@2
  schema:
    type: object
    additionalProperties: false
    required: [do, confidence]
    properties: {do: {enum: [close, keep]}, confidence: {type: number}}
evidence: {required: true, sources: [quote]}
tools: {allow: [search_subjects], deny: [send_mail]}
limits: {seconds: 30, attempts: {crash: 1, qa: 7}, bytes: 1000}
uncertainty: {below: 0.6, then: refuse}
qa:
  - {check: schema}
  - {check: evidence}
  - {check: rule, name: open, expr: "item.state == 'open'", message: it is closed, code: policy.open, on_fail: refuse}
  - {check: rule, name: sure, expr: "output.confidence >= 0.8", message: too unsure, code: policy.sure}
proposes:
  close:
    depends_on: [state, body_sha256]
    tier: single
    payload:
      {type: object, required: [state], additionalProperties: false, properties: {state: {const: closed}}}
  comment: {depends_on: [state], tier: dual}
"""
MINIMAL = """\
contract: tiny
version: 0.1.0
summary: The least that a contract says.
takes: {name: row@1, schema: {type: object}}
gives: {name: label@1, schema: {type: object, required: [label]}}
qa: [{check: schema}]
"""
ITEM = {"key": "a#1", "state": "open", "body": "text"}
GOOD = {"item": ITEM, "output": {"do": "keep", "confidence": 0.9}, "as_of": ""}


@pytest.fixture(scope="module")
def contract() -> Contract:
    return read_contract(CONTRACT, "contract.yaml")


def test_a_contract_holds_what_its_file_says(contract):
    assert contract.key == "issue_review@1.4.0"
    assert contract.version > read_contract(CONTRACT.replace("1.4.0", "1.3.9"), "x").version
    assert (contract.takes_name, contract.gives_name) == ("issue@1", "decision@2")
    assert (contract.evidence_required, contract.evidence_sources) == (True, ("quote",))
    assert (contract.tools_allow, contract.tools_deny) == (("search_subjects",), ("send_mail",))
    assert (contract.max_seconds, contract.max_bytes) == (30, 1000)
    assert contract.uncertainty is not None
    assert contract.uncertainty.then == "refuse"
    assert [check.name for check in contract.qa] == ["schema", "evidence", "open", "sure"]
    assert [check.on_fail for check in contract.qa] == ["rework", "rework", "refuse", "rework"]


def test_a_contract_that_says_the_least_allows_the_least():
    least = read_contract(MINIMAL, "contract.yaml")
    assert (least.tools_allow, least.evidence_required, least.uncertainty) == ((), False, None)
    assert "close" not in least.proposes
    assert least.action_findings("close", {})[0].message == "may propose nothing; got close"
    assert {cause: least.ceilings[cause] for cause in Cause} == CEILINGS


def test_ceilings_are_the_contracts_where_it_names_them(contract):
    assert contract.ceilings[Cause.CRASH] == 1
    assert contract.ceilings[Cause.QA] == 7
    assert contract.ceilings[Cause.DRIFT] == CEILINGS[Cause.DRIFT]


def test_items_and_values_are_held_to_their_schemas(contract):
    assert contract.input_findings(ITEM) == ()
    assert contract.output_findings(GOOD["output"]) == ()
    assert contract.input_findings({"key": "a#1", "state": "open"})[0].code == "schema.required"
    assert contract.output_findings({"do": "close", "confidence": 1, "extra": 1})[0].code == "schema.extra"


def test_rules_hold_or_fail_or_have_no_answer(contract):
    opened, sure = contract.qa[2:]
    unsure = GOOD | {"output": {"confidence": 0.1}}
    assert contract.rules_hold(GOOD)
    assert (opened.holds(unsure), sure.holds(unsure), contract.rules_hold(unsure)) == (True, False, False)
    with pytest.raises(ExpressionFailed):
        sure.holds(GOOD | {"output": {}})
    assert not contract.rules_hold(GOOD | {"output": {}})


def test_only_declared_actions_with_fitting_payloads_may_be_proposed(contract):
    declared = {"state": "open", "body_sha256": "00"}
    assert contract.action_findings("close", {"state": "closed"}, declared) == ()
    assert contract.tier("close") == "single"
    assert contract.proposes["comment"].depends_on == ("state",)
    (finding,) = contract.action_findings("delete", {})
    assert (finding.code, finding.message) == ("contract.action", "may propose close, comment; got delete")
    (finding,) = contract.action_findings("close", {"state": "open"}, declared)
    assert (finding.code, finding.place) == ("schema.value", "/action/payload/state")
    for precondition in ({"state": "open"}, declared | {"comments": 3}, {}):
        (finding,) = contract.action_findings("close", {"state": "closed"}, precondition)
        assert finding.code == "contract.precondition"


def test_stored_bytes_are_the_same_contract(contract):
    again = parse_contract(contract.body)
    assert again == contract
    assert again.sha256 == contract.sha256
    assert hash(again) == hash(contract)
    assert again.document == contract.document
    spaced = json.dumps(contract.document).encode()
    with pytest.raises(BadContract, match="not canonical"):
        parse_contract(spaced)


def test_comments_and_order_do_not_change_a_contract(contract):
    assert read_contract("# why\n" + CONTRACT, "x").sha256 == contract.sha256


def test_the_policy_hash_of_an_action_moves_with_what_governs_it_alone(contract):
    def policy(old, new, action="close"):
        assert old in CONTRACT
        return read_contract(CONTRACT.replace(old, new, 1), "x").policy_sha256(action)

    before = contract.policy_sha256("close")
    assert before != contract.policy_sha256("comment")
    assert policy("summary: Finds", "summary: Looks for") == before
    assert policy("seconds: 30", "seconds: 31") == before
    assert policy("tier: dual", "tier: single") == before
    for old, new in [
        ("tier: single", "tier: dual"),
        ("0.8", "0.7"),
        ("[state, body_sha256]", "[state]"),
        ("below: 0.6", "below: 0.5"),
    ]:
        assert policy(old, new) != before
    with pytest.raises(KeyError):
        contract.policy_sha256("delete")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("contract: issue_review", "contract: Issue-Review", "line 1, /contract: expected text matching"),
        ("version: 1.4.0", "version: 1.4", "line 2, /version: expected a string, got a number"),
        ("version: 1.4.0", "version: 01.4.0", "line 2, /version: expected text matching"),
        ("version: 1.4.0", "version: 1.4.0-rc1", "/version: expected text matching"),
        ("summary: Finds", "sumary: Finds", "/sumary: not allowed here: did you mean summary?"),
        ("issue@1", "issue", "/takes/name: expected text matching"),
        (
            "state: {enum: [open, closed]}",
            "state: {enmu: [open]}",
            "line 10, /takes/schema/properties/state/enmu: unknown keyword 'enmu'",
        ),
        ("{type: string}, state", "{type: no}, state", "line 10, column 30: no may mean a truth value"),
        (
            "    required: [do, confidence]\n",
            "    required: do\n",
            "line 16, /gives/schema/required: expected an array, got a string",
        ),
        ("seconds: 30", "seconds: 0", "line 20, /limits/seconds: expected at least 1, got 0"),
        ("seconds: 30", "seconds: '30'", "/limits/seconds: expected an integer, got a string"),
        ("crash: 1", "crsh: 1", "/limits/attempts/crsh: not allowed here: did you mean crash?"),
        ("then: refuse", "then: guess", "/uncertainty/then: expected one of"),
        ("sources: [quote]", "sources: [rumour]", "/evidence/sources/0: expected one of"),
        ("deny: [send_mail]", "deny: [search_subjects]", "search_subjects is both allowed and denied"),
        ("  - {check: evidence}\n", "", "line 22, /qa: evidence is required, and no check looks at it"),
        (
            "{check: schema}",
            "{check: shcema}",
            '/qa/0/check: expected one of "schema", "evidence", "rule", got "shcema"',
        ),
        ('expr: "item', 'exp: "item', "line 25, /qa/2/expr: missing"),
        ("name: sure", "name: open", "line 26, /qa/3: a second check named 'open'"),
        ("item.state ==", "itm.state ==", "line 25, /qa/2/expr: unknown variable 'itm' (did you mean 'item'?)"),
        (
            "item.state ==",
            "item.status ==",
            "line 25, /qa/2/expr: item.status is not a field of issue@1: body, created_at, key, state",
        ),
        ("output.confidence", "output.sureness", "output.sureness is not a field of decision@2"),
        ("on_fail: refuse", "on_fail: shout", "/qa/2/on_fail: expected one of"),
        ("code: policy.open", "code: Policy", "/qa/2/code: expected text matching"),
        ("tier: dual", "tier: triple", "/proposes/comment/tier: expected one of"),
        ("depends_on: [state, body_sha256]", "depends_on: []", "/proposes/close/depends_on: expected at least 1"),
        ("body_sha256", "bdy_sha256", "/proposes/close/depends_on/1: 'bdy_sha256' is not a field of issue@1"),
        (
            "{state: {const: closed}}}",
            "{state: {cnst: closed}}}",
            "/proposes/close/payload/properties/state/cnst: unknown keyword",
        ),
    ],
)
def test_a_bad_contract_is_refused_with_its_line_and_what_to_write(old, new, says):
    assert old in CONTRACT
    with pytest.raises(BadContract) as refused:
        read_contract(CONTRACT.replace(old, new, 1), "contract.yaml")
    assert says in refused.value.message
    assert refused.value.message.startswith("contract.yaml")


@pytest.mark.parametrize("schema", ["true", "{}", "{type: object}", "{title: anything}"])
def test_an_output_schema_that_checks_nothing_is_refused(schema):
    text = MINIMAL.replace("{type: object, required: [label]}", schema)
    with pytest.raises(BadContract, match="line 5, /gives/schema: takes every object"):
        read_contract(text, "contract.yaml")


def test_several_mistakes_are_told_at_once():
    text = CONTRACT.replace("seconds: 30", "seconds: x").replace("tier: dual", "tier: x").replace("below: 0.6", "below: 6")
    with pytest.raises(BadContract) as refused:
        read_contract(text, "contract.yaml")
    assert len(refused.value.message.splitlines()) == 3


@pytest.mark.parametrize("text", ["", "[]", "contract", b"\xff", "1", "null"])
def test_what_is_no_contract_at_all_is_refused(text):
    with pytest.raises(BadContract):
        read_contract(text, "contract.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "issue_review"
    (made / "examples").mkdir(parents=True)
    (made / "contract.yaml").write_text(CONTRACT)
    (made / "soul.md").write_text("# Who I am\n")
    (made / "cell.py").write_text("raise SystemExit('a cell is not run to be read')\n")
    write(made, "open", {"item": ITEM, "as_of": "2024-01-01T00:00:00Z", "tools": []}, refusal())
    write(made, "settled", {"item": ITEM}, proposal())
    return made


def refusal():
    return {"outcome": "refusal", "code": "route.unsuitable", "message": "not for me"}


def proposal(**changes):
    action = {
        "name": "close",
        "target": "a#1",
        "payload": {"state": "closed"},
        "precondition": {"state": "open", "body_sha256": "0"},
    }
    return {"outcome": "proposal", "value": {"do": "close", "confidence": 0.9}, "action": action | changes}


def write(folder, name, given, expected):
    (folder / "examples" / f"{name}.in.json").write_text(json.dumps(given))
    (folder / "examples" / f"{name}.out.json").write_text(json.dumps(expected))


def test_a_cell_folder_is_contract_soul_code_and_examples(folder):
    cell = load_cell_folder(folder)
    assert cell.contract.key == "issue_review@1.4.0"
    assert cell.soul_text == "# Who I am\n"
    assert cell.code_path == folder / "cell.py"
    assert [example.name for example in cell.examples] == ["open", "settled"]
    assert isinstance(cell.examples[0].expected, Refusal)
    assert isinstance(cell.examples[1].expected, Proposal)
    assert cell.examples[0].as_of == "2024-01-01T00:00:00Z"
    assert cell.warnings == ()


def test_a_cell_needs_no_code_and_no_examples(folder):
    (folder / "cell.py").unlink()
    shutil.rmtree(folder / "examples")
    cell = load_cell_folder(folder)
    assert (cell.code_path, cell.examples) == (None, ())


def test_the_hash_of_a_cell_follows_its_soul_and_code_and_nothing_else(folder):
    before = load_cell_folder(folder).sha256
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "cell.pyc").write_bytes(b"x")
    (folder / ".swp").write_text("x")
    example = next((folder / "examples").glob("*.in.json"))
    example.write_text(example.read_text() + "\n")
    assert load_cell_folder(folder).sha256 == before
    for name in ("soul.md", "cell.py", "wording.py"):
        path = folder / name
        was = path.read_text() if path.exists() else None
        path.write_text((was or "") + "\n")
        assert load_cell_folder(folder).sha256 != before
        path.unlink() if was is None else path.write_text(was)
    assert load_cell_folder(folder).sha256 == before


def test_a_file_that_nothing_reads_is_warned_of(folder):
    (folder / "notes.txt").write_text("x")
    (folder / "examples" / "old.json").write_text("{}")
    (folder / "wording.py").write_text("")
    warnings = load_cell_folder(folder).warnings
    assert [warning.split("issue_review/")[1] for warning in warnings] == [
        "examples/old.json: nothing reads this file",
        "notes.txt: nothing reads this file",
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("contract.yaml", None, "has no contract.yaml"),
        ("contract.yaml", MINIMAL, "the folder is named 'issue_review', its contract 'tiny'"),
        ("contract.yaml", b"\xff\xfe", "UTF-16"),
        ("soul.md", None, "has no soul.md"),
        ("soul.md", " \n\t", "is empty"),
        ("soul.md", b"ok \xff", "byte 3 is not UTF-8"),
        ("soul.md", "a\0b", "NUL"),
        ("big.bin", b"x" * 1_100_000, "at most 500 files of 1048576 bytes"),
        ("examples/open.out.json", None, "open.out.json: missing; an example is a pair"),
        ("examples/open.in.json", None, "open.in.json: missing; an example is a pair"),
        ("examples/open.in.json", "{", "not JSON"),
        ("examples/open.in.json", json.dumps(ITEM), 'expected an object with "item"'),
        ("examples/open.in.json", json.dumps({"item": ITEM, "tool": []}), 'expected an object with "item"'),
        ("examples/open.in.json", json.dumps({"item": ITEM | {"state": 1}}), "/item/state: expected one of"),
        ("examples/open.in.json", json.dumps({"item": ITEM, "tools": [{"tool": "rm"}]}), "/tools/0: expected"),
        ("examples/open.in.json", json.dumps({"item": ITEM, "tools": 5}), "/tools/0: expected"),
        ("examples/open.out.json", "[]", 'expected an object with "outcome"'),
        ("examples/open.out.json", json.dumps({"outcome": "guess"}), "draft, proposal, refusal, need_info, escalation"),
        ("examples/open.out.json", json.dumps({"outcome": "refusal", "code": "x"}), "/message: Field required"),
        (
            "examples/open.out.json",
            json.dumps({"outcome": "draft", "value": {"do": "keep"}}),
            "/value/confidence: missing, as decision@2",
        ),
        (
            "examples/open.out.json",
            json.dumps(proposal(name="delete")),
            "/action/name: may propose close, comment; got delete",
        ),
        ("examples/open.out.json", json.dumps(proposal(payload={})), "/action/payload/state: missing"),
        (
            "examples/open.out.json",
            json.dumps(proposal(precondition={})),
            "/action/precondition: expected exactly the fields",
        ),
    ],
)
def test_a_cell_folder_with_a_flaw_is_refused_with_the_file(folder, name, content, says):
    path = folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    with pytest.raises(BadContract) as refused:
        load_cell_folder(folder)
    assert says in refused.value.message
    assert str(folder) in refused.value.message


def test_a_folder_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no such folder"):
        load_cell_folder(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["symlink", "link to a folder", "fifo"])
def test_what_is_no_plain_file_is_refused_and_never_read(folder, tmp_path, kind):
    odd = folder / "extra.py"
    if kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/etc/hostname" if kind == "symlink" else tmp_path)
    with pytest.raises(BadContract, match="neither a plain file nor a folder"):
        load_cell_folder(folder)


def test_the_body_of_a_contract_is_canonical(contract):
    assert contract.body == canonical(contract.document)
