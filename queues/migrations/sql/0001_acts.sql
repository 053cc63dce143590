-- Acts that need more than the caller's own privileges. Each is SECURITY DEFINER with a fixed search_path and
-- decides from rows, never from what the caller says of itself.

-- What these functions record of a person has that person's token behind it. No login may call this one.
CREATE FUNCTION write_audit(p_workspace uuid, p_actor text, p_action text, p_object text, p_payload text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
  INSERT INTO audit (workspace_id, actor, action, object, payload, payload_sha256)
  VALUES (p_workspace, p_actor, p_action, p_object, p_payload, sha256(convert_to(p_payload, 'UTF8')))
$$$$;

-- What a login records itself: of the workspaces in use, or of none, and nothing that only a decision can be.
CREATE FUNCTION record_audit(p_workspace uuid, p_actor text, p_action text, p_object text, p_payload text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
BEGIN
  IF (p_workspace IS NULL OR p_workspace = ANY (workspaces_in_use())) IS NOT TRUE
     OR p_action LIKE 'review.%'
     OR p_action = 'apply.resolve' THEN
    RAISE EXCEPTION '% may not record % for workspace %', session_user, p_action, p_workspace
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  PERFORM write_audit(p_workspace, p_actor, p_action, p_object, p_payload);
END $$$$;

CREATE FUNCTION workspace_named(p_name text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp
  AS 'SELECT id FROM workspaces WHERE name = p_name';

-- Ids alone: workers serve the lanes of every workspace.
CREATE FUNCTION all_workspaces() RETURNS TABLE (id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp
  AS 'SELECT id FROM workspaces';

-- Whose token is this? Nothing for an unknown, expired or revoked token or a disabled actor.
CREATE FUNCTION actor_of(p_token_sha256 bytea)
RETURNS TABLE (workspace_id uuid, workspace text, actor_id uuid, actor text, kind text, roles text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
  SELECT a.workspace_id, w.name, a.id, a.name, a.kind,
         coalesce((SELECT array_agg(r.role ORDER BY r.role) FROM roles r WHERE r.actor_id = a.id), '{}')
    FROM tokens t
    JOIN actors a ON a.id = t.actor_id
    JOIN workspaces w ON w.id = a.workspace_id
   WHERE t.sha256 = p_token_sha256
     AND t.revoked_at IS NULL
     AND (t.expires_at IS NULL OR t.expires_at > clock())
     AND a.disabled_at IS NULL
$$$$;

-- Brings proposals into the world, each with its clearance: the only door. Where they belong and who submitted them is
-- read from the item, which has to be leased under the fence given: its row stays locked until the caller commits its
-- move, and what is not leased so is left out. The tier is that of the contract that the item is pinned to, or is being
-- pinned to by the same commit; single where that names none. The caller may only ask for more, or for a report, which
-- nothing can apply. A tier of `none` holds only where the pod's own row says full_auto: then the clearance is born
-- cleared and the proposal approved, with nobody's decision.
CREATE FUNCTION propose(
  p_ids uuid[], p_items uuid[], p_actions text[], p_targets text[], p_adapters text[], p_sha256s bytea[],
  p_preconditions bytea[], p_epochs int[], p_findings text[], p_confidences real[], p_authors text[],
  p_expiries timestamptz[], p_fences int[], p_contracts int[], p_tiers text[], p_clearances uuid[],
  p_due_seconds int)
RETURNS TABLE (proposal_id uuid, clearance_state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RETURN QUERY WITH tiers AS MATERIALIZED (
    -- Each contract is read once, however many items are pinned to it.
    SELECT k.id, p.key AS action, p.value ->> 'tier' AS tier
      FROM contracts k CROSS JOIN LATERAL json_each(convert_from(k.body, 'UTF8')::json -> 'proposes') p
     WHERE k.id = ANY (p_contracts)),
  wanted AS MATERIALIZED (
    SELECT t.*, o.workspace_id, o.id AS order_id, o.submitter,
           CASE WHEN t.tier = '' THEN '' WHEN 'dual' IN (t.tier, s.tier) THEN 'dual'
                WHEN t.tier = 'none' AND s.tier = 'none' AND d.autonomy = 'full_auto' THEN 'none'
                ELSE 'single' END AS tier_in_force
      -- In id order, like every set of items that is locked.
      FROM (SELECT *
              FROM unnest(p_ids, p_items, p_actions, p_targets, p_adapters, p_sha256s, p_preconditions, p_epochs,
                          p_findings, p_confidences, p_authors, p_expiries, p_fences, p_contracts, p_tiers,
                          p_clearances)
                AS t (id, item_id, action, target, adapter, sha256, precondition_sha256, epoch,
                      finding, confidence, author, expires_at, fence, contract_id, tier,
                      clearance)
             ORDER BY t.item_id OFFSET 0) t
      CROSS JOIN LATERAL (SELECT q.order_id, coalesce(q.contract_id, t.contract_id) AS contract_id
                            FROM queue q
                           WHERE q.item_id = t.item_id
                             AND q.fence = t.fence
                             AND q.state = 'leased' FOR NO KEY UPDATE) held
      LEFT JOIN tiers s ON s.id = held.contract_id AND s.action = t.action
      -- An array of one instead of =, so that no plan made on an empty table can turn the join around.
      JOIN orders o ON o.id = ANY (ARRAY[held.order_id]) JOIN pods d ON d.id = ANY (ARRAY[o.pod_id])
     WHERE (o.workspace_id = ANY ((SELECT workspaces_in_use())::uuid[])) IS TRUE),
  written AS (
    INSERT INTO proposals (
      id, workspace_id, item_id, order_id, action, target, adapter, sha256, precondition_sha256, epoch, finding,
      confidence, author, submitter, expires_at, state)
    SELECT w.id, w.workspace_id, w.item_id, w.order_id, w.action, w.target, w.adapter, w.sha256, w.precondition_sha256,
           w.epoch, w.finding, w.confidence, w.author, w.submitter, w.expires_at,
           CASE w.tier_in_force WHEN '' THEN 'report_only' WHEN 'none' THEN 'approved' ELSE 'open' END
      FROM wanted w),
  opened AS (
    INSERT INTO clearances (id, workspace_id, proposal_id, tier, needed, state, due_at, closed_at)
    SELECT w.clearance, w.workspace_id, w.id, w.tier_in_force,
           CASE w.tier_in_force WHEN 'none' THEN 0 WHEN 'single' THEN 1 ELSE 2 END,
           CASE w.tier_in_force WHEN 'none' THEN 'cleared' ELSE 'open' END,
           clock() + make_interval(secs => p_due_seconds),
           CASE w.tier_in_force WHEN 'none' THEN clock() END
      FROM wanted w WHERE w.tier_in_force <> ''
    RETURNING clearances.proposal_id, clearances.state)
  SELECT w.id, coalesce(o.state, '') FROM wanted w LEFT JOIN opened o ON o.proposal_id = w.id;
END $$$$;

-- One person's answer. The actor comes from the token alone. Returns the clearance's state after it.
-- SQLSTATEs: SF401 unknown token, SF403 may not decide, SF404 no such clearance, SF409 stale or closed.
CREATE FUNCTION decide(p_id uuid, p_token_sha256 bytea, p_clearance uuid, p_proposal_sha256 bytea, p_decision text,
                       p_reason text)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE who record; c clearances; p proposals; e json; differs boolean; approvals int; result text;
BEGIN
  SELECT * INTO who FROM actor_of(p_token_sha256);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the token is unknown, expired or revoked, or its actor is disabled' USING ERRCODE = 'SF401';
  END IF;
  SELECT * INTO c FROM clearances WHERE id = p_clearance AND workspace_id = who.workspace_id FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'no such clearance in workspace %', who.workspace USING ERRCODE = 'SF404'; END IF;
  SELECT * INTO p FROM proposals WHERE id = c.proposal_id FOR UPDATE;
  IF c.state <> 'open' OR p.state <> 'open' THEN
    RAISE EXCEPTION 'the clearance is % and its proposal %', c.state, p.state USING ERRCODE = 'SF409';
  END IF;
  IF p.sha256 IS DISTINCT FROM p_proposal_sha256 THEN
    RAISE EXCEPTION 'the proposal is not the one that was shown: its hash is now %', encode(p.sha256, 'hex')
      USING ERRCODE = 'SF409';
  END IF;
  IF p.expires_at <= clock() THEN
    RAISE EXCEPTION 'the proposal expired at %', p.expires_at USING ERRCODE = 'SF409';
  END IF;
  -- Lists show the row, and what will run are the bytes. (Those too large for the database are compared when they are
  -- applied.)
  BEGIN
    SELECT convert_from(b.bytes, 'UTF8') INTO e FROM bodies b WHERE b.item_id = p.item_id AND b.sha256 = p.sha256;
    differs := FOUND AND (e ->> 'item', e ->> 'action', e ->> 'target', e ->> 'adapter', e ->> 'epoch')
                         IS DISTINCT FROM (p.item_id::text, p.action, p.target, p.adapter, p.epoch::text);
  EXCEPTION WHEN untranslatable_character THEN
    -- A NUL in what a cell wrote: no JSON type here can read it. Then, too, they are compared when applied.
    differs := false;
  END;
  IF differs THEN
    RAISE EXCEPTION 'the proposal''s bytes are not what its row says: nobody can decide on them'
      USING ERRCODE = 'SF409';
  END IF;
  IF who.kind <> 'person' THEN
    RAISE EXCEPTION '% is a service: a person has to decide', who.actor USING ERRCODE = 'SF403';
  END IF;
  IF NOT who.roles && ARRAY['reviewer'] THEN
    RAISE EXCEPTION '% does not hold the role reviewer', who.actor USING ERRCODE = 'SF403';
  END IF;
  IF who.actor IN (p.author, p.submitter) OR who.actor = ANY (p.editors) THEN
    RAISE EXCEPTION '% wrote, edited or submitted this work: another person has to decide', who.actor
      USING ERRCODE = 'SF403';
  END IF;
  IF EXISTS (SELECT FROM decisions WHERE clearance_id = c.id AND actor_id = who.actor_id) THEN
    RAISE EXCEPTION '% has decided already: another person has to', who.actor USING ERRCODE = 'SF409';
  END IF;
  INSERT INTO decisions (id, workspace_id, clearance_id, proposal_id, proposal_sha256, actor_id, decision, reason,
                         expires_at)
  VALUES (p_id, who.workspace_id, c.id, p.id, p.sha256, who.actor_id, p_decision, p_reason, p.expires_at);
  SELECT count(*) INTO approvals FROM decisions WHERE clearance_id = c.id AND decision = 'approve';
  result := CASE WHEN p_decision = 'reject' THEN 'refused' WHEN p_decision = 'return' THEN 'returned'
                 WHEN approvals >= c.needed THEN 'cleared' ELSE 'open' END;
  UPDATE clearances SET state = result, closed_at = CASE WHEN result <> 'open' THEN clock() END WHERE id = c.id;
  UPDATE proposals
     SET state = CASE result WHEN 'cleared' THEN 'approved' WHEN 'refused' THEN 'rejected'
                             WHEN 'returned' THEN 'returned' ELSE state END
   WHERE id = p.id;
  PERFORM write_audit(who.workspace_id, who.actor, 'review.' || p_decision, p.id::text,
    json_build_object('clearance', c.id, 'proposal_sha256', encode(p.sha256, 'hex'),
                      'reason', p_reason, 'result', result)::text);
  RETURN result;
END $$$$;

-- Ends the open clearance of proposals that are no longer wanted (superseded, cancelled, expired).
CREATE FUNCTION void_proposals(p_items uuid[], p_state text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE n int;
BEGIN
  IF p_state NOT IN ('superseded', 'cancelled', 'expired') THEN RAISE EXCEPTION 'not an end: %', p_state; END IF;
  WITH ended AS (
    UPDATE proposals SET state = p_state
     WHERE item_id = ANY (p_items) AND state IN ('open', 'approved')
       AND (workspace_id = ANY (workspaces_in_use()) OR session_user = '${prefix}sweep')
       AND NOT EXISTS (SELECT FROM applies a WHERE a.proposal_id = proposals.id AND $unconfirmed)
    RETURNING id)
  UPDATE clearances SET state = 'void', closed_at = clock() FROM ended WHERE clearances.proposal_id = ended.id;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$$$;

-- A person's word on an apply whose effect is not known: it was done, or it was not. The actor comes from the token
-- alone; the item is moved by the caller, in the same transaction. SQLSTATEs as in decide().
CREATE FUNCTION resolve_apply(p_token_sha256 bytea, p_apply uuid, p_is text, p_reason text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE who record; sent applies;
BEGIN
  SELECT * INTO who FROM actor_of(p_token_sha256);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the token is unknown, expired or revoked, or its actor is disabled' USING ERRCODE = 'SF401';
  END IF;
  IF p_is NOT IN ('applied', 'absent') THEN RAISE EXCEPTION 'not an answer: %', p_is; END IF;
  IF who.kind <> 'person' OR NOT who.roles && ARRAY['operator', 'admin'] THEN
    RAISE EXCEPTION '% may not answer for an apply: a person with the role operator has to', who.actor
      USING ERRCODE = 'SF403';
  END IF;
  SELECT * INTO sent FROM applies WHERE id = p_apply AND workspace_id = who.workspace_id;
  IF NOT FOUND THEN RAISE EXCEPTION 'no such apply in workspace %', who.workspace USING ERRCODE = 'SF404'; END IF;
  -- The item first, like every other act on it; a leased one may be calling the target right now.
  PERFORM FROM queue WHERE item_id = sent.item_id AND state <> 'leased' FOR NO KEY UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'a worker is on it, or it has ended' USING ERRCODE = 'SF409'; END IF;
  UPDATE applies a SET state = CASE p_is WHEN 'applied' THEN 'applied' ELSE 'failed' END, finished_at = clock(),
         receipt = convert_to(json_build_object('resolved', p_is, 'by', who.actor, 'reason', p_reason)::text, 'UTF8')
   WHERE a.id = sent.id AND $unconfirmed;
  IF NOT FOUND THEN RAISE EXCEPTION 'the apply has ended already' USING ERRCODE = 'SF409'; END IF;
  UPDATE proposals SET state = CASE p_is WHEN 'applied' THEN 'applied' ELSE 'failed' END
   WHERE id = sent.proposal_id AND state IN ('approved', 'unknown');
  PERFORM write_audit(who.workspace_id, who.actor, 'apply.resolve', sent.id::text,
    json_build_object('is', p_is, 'proposal', sent.proposal_id, 'reason', p_reason)::text);
END $$$$;
