"""Ways to break a healthy database behind the back of every guard: the invariant, what is wrong afterwards, the SQL."""

from contracts.identity import new_id

OPEN = "(SELECT item_id FROM proposals WHERE state = 'open')"
"""The item whose proposal waits for a reviewer."""
READY = "(SELECT item_id FROM queue WHERE state = 'ready' ORDER BY item_id LIMIT 1)"
"""An item that was never claimed."""
DRAFT = """(SELECT item_id FROM archived_items WHERE finding NOT IN ('context', '') AND rounds = 0
             AND item_id NOT IN (SELECT item_id FROM proposals) LIMIT 1)"""
"""An item that went through its cell and the gate, proposed nothing and is archived."""
ITS_BODY = "(bodies.item_id, bodies.sha256) = (a.item_id, a.sha256)"

_RETRIES = f"""
INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor, reason)
SELECT q.item_id, q.workspace_id, q.moved_at, q.move_no + 2 * k - m.back, k, l.number, 'worker',
       CASE m.move WHEN 'retry' THEN 'transient: no answer' ELSE '' END
  FROM queue q, generate_series(1, 9) k, (VALUES ('claim', 1), ('retry', 0)) m (move, back), legal_moves l
 WHERE q.item_id = {READY} AND l.move = m.move AND l.from_stage = 'route';
UPDATE queue SET fence = 9, move_no = move_no + 18, transients = 9 WHERE item_id = {READY}
"""
_RETURNS = f"""
INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
SELECT q.item_id, q.workspace_id, q.moved_at, q.move_no + 2 * k - m.back, k, l.number, 'worker'
  FROM queue q, generate_series(1, 251) k, (VALUES ('claim', 1), ('give_back', 0)) m (move, back), legal_moves l
 WHERE q.item_id = {READY} AND l.move = m.move AND l.from_stage = 'route';
UPDATE queue SET fence = 251, move_no = move_no + 502 WHERE item_id = {READY}
"""
_LAST_LEASE = f"""
UPDATE moves SET fence = fence + %s
 WHERE item_id = {DRAFT} AND no >= (SELECT max(no) - 1 FROM moves m WHERE m.item_id = moves.item_id)
"""
_NOT_RELEASED = f"""
UPDATE batches SET finished_at = clock() - interval '1 min';
DELETE FROM moves WHERE item_id = {READY} AND no > 1;
UPDATE moves SET legal = (SELECT number FROM legal_moves WHERE move = 'hold') WHERE item_id = {READY};
UPDATE queue q
   SET stage = 'intake', state = 'waiting', lane = 'intake', ready_lane = NULL, wait = 'dependency', move_no = 1,
       waiting_on = 'batch ' || i.batch_id
  FROM items i WHERE i.id = q.item_id AND i.id = {READY}
"""
_STANDSTILL = f"""
UPDATE queue SET due_at = clock() - interval '5 min', moved_at = clock() - interval '5 min' WHERE item_id = {READY};
DELETE FROM lane_minutes;
INSERT INTO workers (id, name, host, pid, lanes) VALUES (gen_random_uuid(), 'w', 'h', 1, '{{route}}')
"""
_SECOND_APPLY = f"""
DROP INDEX applies_once;
INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, idempotency_class, fence,
                     state, intent_at, finished_at, receipt)
SELECT '{new_id()}', workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, idempotency_class, fence,
       state, intent_at, finished_at, receipt
  FROM applies
"""
_WRONG_VALUE = f"""
UPDATE bodies SET sha256 = sha256('{{}}'), bytes = '{{}}' FROM artifacts a WHERE a.item_id = {DRAFT} AND {ITS_BODY};
UPDATE artifacts SET sha256 = sha256('{{}}'), size_bytes = 2 WHERE item_id = {DRAFT}
"""
_TWO_PLACES = f"""
INSERT INTO archived_items
SELECT item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, rounds, stage, 'done', lane, flow, '', clock()
  FROM queue WHERE item_id = {READY}
"""
_STRAY_MOVE = f"""
INSERT INTO workspaces (id, name) VALUES ('{new_id()}', 'other');
UPDATE moves SET workspace_id = (SELECT id FROM workspaces WHERE name = 'other') WHERE item_id = {DRAFT} AND no = 1
"""
_ELSEWHERE = f"""
UPDATE moves SET legal = (SELECT number FROM legal_moves WHERE move = 'carry' AND from_stage = 'artifact' AND to_stage = 'qa')
 WHERE item_id = {DRAFT} AND fence = 2
"""
_FLIPPED = f"""
UPDATE bodies SET bytes = set_bit(bytes, 5, 1 - get_bit(bytes, 5)) FROM artifacts a WHERE a.item_id = {DRAFT} AND {ITS_BODY}
"""
_TORN = f"""
UPDATE bodies SET bytes = substr(bytes, 1, 9)
  FROM proposals p WHERE p.item_id = {OPEN} AND (bodies.item_id, bodies.sha256) = (p.item_id, p.sha256)
"""
_OTHER_CONTRACT = f"""
UPDATE archived_items SET contract_id = (SELECT id FROM contracts WHERE name = 'reference') WHERE item_id = {DRAFT}
"""
_EDITED_CONTRACT = """
UPDATE contracts SET body = convert_to(replace(convert_from(body, 'UTF8'), '14', '15'), 'UTF8') WHERE name = 'issue_review'
"""
_SHARED_ORDER = "UPDATE batch_rows b SET order_id = o.order_id FROM batch_rows o WHERE b.row_no = 5 AND o.row_no = 3"
_TOO_FAR = f"ALTER TABLE items DROP CONSTRAINT items_depth_check; UPDATE items SET depth = 9 WHERE id = {DRAFT}"

BREAKS: list[tuple[int, str, str]] = [
    (1, "a batch counts a row that is not there", "UPDATE batches SET rows_read = rows_read + 1, accepted = accepted + 1"),
    (1, "a batch counts a context row too many", "UPDATE batches SET context = context + 1"),
    (1, "the last row is gone", "DELETE FROM batch_rows WHERE row_no = 9"),
    (1, "an accepted row names no order that exists", "UPDATE batch_rows SET order_id = gen_random_uuid() WHERE row_no = 3"),
    (1, "two accepted rows share an order", _SHARED_ORDER),
    (2, "a move starts where the last did not end", _ELSEWHERE),
    (2, "a move is missing", f"DELETE FROM moves WHERE item_id = {DRAFT} AND no = 2"),
    (
        2,
        "an item stands where no move left it",
        f"UPDATE archived_items SET state = 'refused' WHERE item_id = {DRAFT}; UPDATE orders SET state = 'refused' WHERE id = (SELECT order_id FROM items WHERE id = {DRAFT})",
    ),
    (2, "an item has no history", f"DELETE FROM moves WHERE item_id = {READY}"),
    (3, "an item carries a fence that no move gave it", f"UPDATE archived_items SET fence = fence + 1 WHERE item_id = {DRAFT}"),
    (3, "a fence is given twice", _LAST_LEASE % -1),
    (3, "a result is later than its lease", f"UPDATE artifacts SET created_at = created_at + interval '1 s' WHERE item_id = {DRAFT}"),
    (3, "a verdict comes from no lease", f"UPDATE verdicts SET fence = 99 WHERE item_id = {DRAFT}"),
    (4, "an attempt is missing", _LAST_LEASE % 1 + f"; UPDATE archived_items SET fence = fence + 1 WHERE item_id = {DRAFT}"),
    (4, "an execution belongs to no lease", f"UPDATE attempts SET fence = 99 WHERE item_id = {DRAFT}"),
    (4, "a ceiling is passed", _RETRIES),
    (5, "an action is applied twice", _SECOND_APPLY),
    (5, "an approval has no end", "UPDATE proposals SET state = 'approved' WHERE state = 'applied'; DELETE FROM applies"),
    (5, "an effect is unknown and nobody is asked", "UPDATE proposals SET state = 'unknown'; UPDATE applies SET state = 'unknown'"),
    (5, "a proposal is applied and no apply is", "UPDATE applies SET state = 'failed'"),
    (5, "an apply is applied and its proposal is not", "UPDATE proposals SET state = 'failed' WHERE state = 'applied'"),
    (5, "an open proposal outlives its item", "UPDATE proposals SET state = 'open' WHERE state = 'applied'; DELETE FROM applies"),
    (6, "nobody decided", "DELETE FROM decisions"),
    (6, "the decision came later", "UPDATE decisions SET decided_at = decided_at + interval '1 h'"),
    (6, "the decision had run out", "UPDATE decisions SET expires_at = decided_at"),
    (6, "the reviewer had edited it", "UPDATE proposals SET editors = ARRAY(SELECT name FROM actors) WHERE state = 'applied'"),
    (6, "the reviewer submitted it", "UPDATE proposals SET submitter = (SELECT actor FROM inspect.decisions) WHERE state = 'applied'"),
    (6, "two decisions were asked for", "UPDATE clearances SET tier = 'dual', needed = 2 WHERE state = 'cleared'"),
    (6, "the contract asks for more", "UPDATE clearances SET tier = 'none', needed = 0 WHERE state = 'cleared'"),
    (6, "there is no clearance", "DELETE FROM clearances WHERE state = 'cleared'"),
    (7, "the action id names something else", "UPDATE applies SET action_id = sha256('other')"),
    (7, "something else was sent", "UPDATE applies SET proposal_sha256 = sha256('other')"),
    (7, "something else was decided on", "UPDATE decisions SET proposal_sha256 = sha256('other')"),
    (7, "the target is not that of the bytes", "UPDATE proposals SET target = 'acme/widgets#99' WHERE state = 'open'"),
    (7, "the precondition is not that of the bytes", "UPDATE proposals SET precondition_sha256 = sha256('x') WHERE state = 'open'"),
    (7, "the expiry is not that of the bytes", "UPDATE proposals SET expires_at = expires_at + interval '1 d' WHERE state = 'open'"),
    (7, "no artifact bears the name", "UPDATE proposals SET sha256 = sha256('other') WHERE state = 'open'"),
    (9, "a bit flipped", _FLIPPED),
    (9, "an envelope was torn", _TORN),
    (9, "an artifact's bytes are gone", f"DELETE FROM bodies USING artifacts a WHERE a.item_id = {DRAFT} AND {ITS_BODY}"),
    (9, "an artifact states another size", f"UPDATE artifacts SET size_bytes = size_bytes + 1 WHERE item_id = {DRAFT}"),
    (9, "a queued item has no payload", f"DELETE FROM bodies WHERE item_id = {READY}"),
    (10, "a published contract was edited", _EDITED_CONTRACT),
    (10, "a published contract is no JSON", "UPDATE contracts SET body = 'x' WHERE name = 'issue_review'"),
    (10, "a published contract is not text", "UPDATE contracts SET body = '\\xff' WHERE name = 'issue_review'"),
    (10, "an artifact is not what the contract gives", _WRONG_VALUE),
    (10, "an artifact is of another kind", f"UPDATE artifacts SET kind = 'other@1' WHERE item_id = {DRAFT}"),
    (10, "an artifact is of another contract than its item", _OTHER_CONTRACT),
    (10, "an attempt is filed as something else", f"UPDATE attempts SET outcome = 'refusal' WHERE item_id = {DRAFT}"),
    (12, "an item waits for nobody", "UPDATE queue SET waiting_on = '' WHERE state = 'waiting'"),
    (12, "an item waits for a clearance that is void", "UPDATE clearances SET state = 'void', closed_at = clock() WHERE state = 'open'"),
    (12, "an item is due in a year", f"UPDATE queue SET due_at = clock() + interval '1 year' WHERE item_id = {READY}"),
    (12, "a served lane stands still", _STANDSTILL),
    (12, "an item is claimed and given back for ever", _RETURNS),
    (13, "a move belongs to another workspace", _STRAY_MOVE),
    (13, "an artifact belongs to no workspace", f"UPDATE artifacts SET workspace_id = gen_random_uuid() WHERE item_id = {OPEN}"),
    (13, "row security is off", "ALTER TABLE findings DISABLE ROW LEVEL SECURITY"),
    (13, "a partition does not force row security", "ALTER TABLE moves_other NO FORCE ROW LEVEL SECURITY"),
    (13, "a login owns a table", "ALTER TABLE lanes OWNER TO shopfloor_apply"),
    (13, "a login is a member of another", "GRANT shopfloor_apply TO shopfloor_propose"),
    (13, "a login bypasses row security", "ALTER ROLE shopfloor_read BYPASSRLS"),
    (14, "rounds were counted that nobody went", f"UPDATE archived_items SET rounds = 9 WHERE item_id = {DRAFT}"),
    (14, "a round was not counted", "UPDATE archived_items SET rounds = 0 WHERE rounds > 0"),
    (14, "an item is too many hops away", _TOO_FAR),
    (16, "an item waits for a batch that is complete", _NOT_RELEASED),
    (17, "an item is nowhere", f"DELETE FROM queue WHERE item_id = {OPEN}"),
    (17, "an item is in two places", _TWO_PLACES),
    (17, "a place holds an item that was never created", f"DELETE FROM items WHERE id = {READY}"),
    (17, "an order is open after its end", "UPDATE orders SET state = 'open', closed_at = NULL WHERE state = 'done'"),
    (
        17,
        "an order ended before its item",
        f"UPDATE orders SET state = 'done', closed_at = clock() WHERE id = (SELECT order_id FROM items WHERE id = {READY})",
    ),
    (17, "an order ended otherwise than its item", "UPDATE orders SET state = 'refused' WHERE state = 'done'"),
    (17, "an item changed its flow", f"UPDATE queue SET flow = 'other' WHERE item_id = {READY}"),
]
