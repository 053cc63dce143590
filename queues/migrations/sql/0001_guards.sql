-- Guards: what no role can do by mistake, and no statement can leave half done. Each names its search path: a temporary
-- table of the caller's would otherwise be what a guard looks into.

CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$$$;

-- A published contract, floor or cell never changes; a decision, verdict, move or audit row neither.
DO $$$$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['contracts', 'cells', 'floors', 'decisions', 'audit', 'legal_moves', 'items', 'triggers',
                             'moves', 'verdicts', 'attempts'] LOOP
    EXECUTE format(
      'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_rewrite()',
      t);
    EXECUTE format(
      'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()',
      t);
  END LOOP;
END $$$$;

-- A token that was revoked proves nothing for ever; whoever is to act again gets another one.
CREATE FUNCTION guard_token() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RAISE EXCEPTION 'token % was revoked', OLD.id USING ERRCODE = 'insufficient_privilege';
END $$$$;
CREATE TRIGGER revoked_stays BEFORE UPDATE ON tokens
  FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION guard_token();

-- ------------------------------------------------------------------ no state without its history
-- Each guard looks into `moves` sideways, a probe a row: joined freely, or from an EXISTS beside an OR, a plan made
-- while the table was small would read all of it for every statement, for as long as the session lives.
-- History is a chain: a move starts where the one before it ended, counts on by one, and a lease has the next fence.
CREATE FUNCTION guard_moves() RETURNS trigger LANGUAGE plpgsql SET enable_hashjoin = on
  SET search_path = $schema, pg_temp AS $$$$
DECLARE bad record;
BEGIN
  SELECT n.item_id, l.move INTO bad FROM new_rows n
    JOIN legal_moves l ON l.number = n.legal
    LEFT JOIN LATERAL (SELECT m.fence, m.legal
                         FROM moves m
                        WHERE m.item_id = n.item_id AND m.no = n.no - 1 OFFSET 0) p ON true
    LEFT JOIN legal_moves pl ON pl.number = p.legal
   WHERE n.at <> clock() OR n.fence <> coalesce(p.fence, 0) + (l.to_state = 'leased')::int
      OR (l.from_stage, l.from_state) <> (coalesce(pl.to_stage, 'none'), coalesce(pl.to_state, 'none'))
      OR (p.legal IS NULL) <> (n.no = 1)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'move % of item % does not continue its history', bad.move, bad.item_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER chained AFTER INSERT ON moves
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_moves();

-- The queue row says what the last move says, and nothing else: stage, state, fence and count.
CREATE FUNCTION guard_queue() RETURNS trigger LANGUAGE plpgsql SET enable_hashjoin = on
  SET search_path = $schema, pg_temp AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT n.item_id INTO bad FROM new_rows n
    LEFT JOIN LATERAL (SELECT no, fence, legal
                         FROM moves
                        WHERE moves.item_id = n.item_id
                        ORDER BY no DESC
                        LIMIT 1) m ON true
    LEFT JOIN legal_moves l ON l.number = m.legal
   WHERE (l.to_stage, l.to_state, m.no, m.fence) IS DISTINCT FROM (n.stage, n.state, n.move_no, n.fence)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % would be where its history does not put it', bad USING ERRCODE = 'check_violation';
  END IF;
  -- The only doors into apply are moves that follow a cleared clearance of the item's own approved proposal.
  IF EXISTS (SELECT FROM new_rows WHERE stage = 'apply' AND state = 'ready') THEN
    SELECT n.item_id INTO bad FROM new_rows n
      CROSS JOIN LATERAL (SELECT at, legal
                            FROM moves
                           WHERE moves.item_id = n.item_id AND moves.no = n.move_no OFFSET 0) m
     WHERE m.at = clock() AND m.legal IN ($into_apply) AND n.stage = 'apply' AND NOT EXISTS (
       -- OFFSET 0 keeps the planner at the item's few proposals: an index on a state would walk all that are in it.
       SELECT FROM (SELECT * FROM proposals WHERE proposals.item_id = n.item_id OFFSET 0) p
         CROSS JOIN LATERAL (SELECT state FROM clearances WHERE clearances.proposal_id = p.id OFFSET 0) c
        WHERE p.state = 'approved' AND c.state = 'cleared' AND p.expires_at > clock()) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'item % has no cleared clearance: it cannot go to apply', bad
        USING ERRCODE = 'insufficient_privilege';
    END IF;
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER history_of_insert AFTER INSERT ON queue
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_queue();
CREATE TRIGGER history_of_update AFTER UPDATE ON queue
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_queue();

-- What leaves the queue is filed under its last move. (A pruned dead letter ends by the move that buried it.)
CREATE FUNCTION guard_queue_delete() RETURNS trigger LANGUAGE plpgsql SET enable_hashjoin = on
  SET search_path = $schema, pg_temp AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT o.item_id INTO bad FROM old_rows o
    LEFT JOIN LATERAL (SELECT *
                         FROM archived_items
                        WHERE archived_items.item_id = o.item_id OFFSET 0) a ON a.move_no >= o.move_no
    LEFT JOIN LATERAL (SELECT no, fence, legal
                         FROM moves
                        WHERE moves.item_id = o.item_id
                        ORDER BY no DESC
                        LIMIT 1) m ON true
    LEFT JOIN legal_moves l ON l.number = m.legal
   WHERE l.number IS NULL OR l.to_state NOT IN ($terminal)
      OR (l.to_stage, l.to_state, m.no, m.fence) IS DISTINCT FROM (a.stage, a.state, a.move_no, a.fence)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % left the queue without its final move and archive row', bad
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER history_of_delete AFTER DELETE ON queue
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_queue_delete();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON queue FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- ------------------------------------------------------------------ no end of an order before that of its items
-- A dead letter alone may outlive its order: a newer revision takes the way back from it.
CREATE FUNCTION guard_orders() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT n.id INTO bad FROM new_rows n
   CROSS JOIN LATERAL (SELECT id FROM items WHERE items.order_id = n.id OFFSET 0) i
   CROSS JOIN LATERAL (SELECT state FROM queue WHERE queue.item_id = i.id OFFSET 0) q
   WHERE n.state <> 'open' AND q.state <> 'dead' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'order % cannot end: an item of it is in progress', bad USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER ends_with_its_items AFTER UPDATE ON orders
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_orders();
-- An ended order stays as it is; only its revision can be withdrawn, once.
CREATE FUNCTION guard_order_end() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  IF OLD.withdrawn_at IS NULL AND to_jsonb(NEW) - 'withdrawn_at' = to_jsonb(OLD) - 'withdrawn_at' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'order % has ended: it is %', OLD.id, OLD.state USING ERRCODE = 'insufficient_privilege';
END $$$$;
CREATE TRIGGER ended_stays BEFORE UPDATE ON orders
  FOR EACH ROW WHEN (OLD.state <> 'open') EXECUTE FUNCTION guard_order_end();

-- ------------------------------------------------------------------ no apply without its approval
-- SECURITY DEFINER: the check reads what the apply role might be kept from seeing, whatever its setting says.
-- Enough people who may still decide approve of these very bytes. Where nobody has to, no one is asked.
CREATE FUNCTION approvals_hold(p_proposal uuid, p_needed int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = $schema, pg_temp AS $$$$
  SELECT p_needed <= (SELECT count(DISTINCT d.actor_id)
    FROM proposals p JOIN clearances c ON c.proposal_id = p.id JOIN decisions d ON d.clearance_id = c.id
    JOIN actors a ON a.id = d.actor_id AND a.disabled_at IS NULL
   WHERE p.id = p_proposal AND d.decision = 'approve' AND d.proposal_sha256 = p.sha256
     AND d.expires_at > clock() AND a.name NOT IN (p.author, p.submitter) AND NOT a.name = ANY (p.editors))
$$$$;
CREATE FUNCTION guard_intents() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE bad record;
BEGIN
  -- Locked in id order: whoever voids one of these meanwhile waits, and then finds its intent.
  PERFORM 1 FROM (SELECT DISTINCT proposal_id FROM new_rows ORDER BY 1) n
    CROSS JOIN LATERAL (SELECT FROM proposals p WHERE p.id = n.proposal_id FOR SHARE) held;
  SELECT n.proposal_id, p.state AS proposal, c.state AS clearance, c.needed INTO bad FROM new_rows n
    LEFT JOIN LATERAL (SELECT *
                         FROM proposals
                        WHERE proposals.id = n.proposal_id OFFSET 0) p ON p.workspace_id = n.workspace_id
    LEFT JOIN LATERAL (SELECT * FROM clearances WHERE clearances.proposal_id = p.id OFFSET 0) c ON true
   WHERE (p.state = 'approved'
          AND c.state = 'cleared'
          AND p.expires_at > clock()
          AND n.proposal_sha256 = p.sha256
          AND n.state = 'intent'
          AND p.item_id = n.item_id
          AND p.adapter = n.adapter
          AND n.action_id = sha256(p.sha256 || '\x00'::bytea || convert_to(p.target, 'UTF8'))) IS NOT TRUE
      OR c.needed > 0 AND NOT approvals_hold(p.id, c.needed)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION
      'proposal % may not be applied: it is %, its clearance %, or it has too few valid approvals (% needed)',
      bad.proposal_id, bad.proposal, bad.clearance, bad.needed USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER approved_only AFTER INSERT ON applies
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_intents();

CREATE FUNCTION guard_apply() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RAISE EXCEPTION 'apply % is finished', OLD.id USING ERRCODE = 'insufficient_privilege';
END $$$$;
CREATE TRIGGER finished_stays BEFORE UPDATE ON applies
  FOR EACH ROW WHEN (OLD.state IN ('applied', 'failed')) EXECUTE FUNCTION guard_apply();

-- A proposal's identity is what was approved: no role may update more than its state, and these moves of it are
-- refused. Only the functions that check clearances may approve: they run as the owner of this table.
CREATE FUNCTION guard_proposal() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RAISE EXCEPTION 'proposal % cannot go from % to % by %', OLD.id, OLD.state, NEW.state, current_user
    USING ERRCODE = 'insufficient_privilege';
END $$$$;
CREATE TRIGGER state_moves_on BEFORE UPDATE ON proposals FOR EACH ROW
  WHEN (OLD.state IN ('applied', 'rejected', 'report_only') AND NEW.state <> OLD.state
        OR NEW.state = 'approved' AND OLD.state <> 'approved' AND current_user <> '$owner')
  EXECUTE FUNCTION guard_proposal();
-- Applied is what has an applied apply, whoever says so.
CREATE FUNCTION guard_applied() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT n.id INTO bad FROM new_rows n WHERE n.state = 'applied' AND NOT EXISTS (
    SELECT FROM (SELECT state FROM applies WHERE applies.proposal_id = n.id OFFSET 0) a WHERE a.state = 'applied')
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'proposal % has no apply that was applied', bad USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER applied_by_apply AFTER UPDATE ON proposals
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
  EXECUTE FUNCTION guard_applied();
CREATE FUNCTION proposal_identity() RETURNS trigger LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  RAISE EXCEPTION 'proposal % is immutable but for its state', OLD.id USING ERRCODE = 'insufficient_privilege';
END $$$$;
CREATE TRIGGER identity_stays BEFORE UPDATE OF id, workspace_id, item_id, order_id, action, target, adapter, sha256,
  precondition_sha256, epoch, finding, confidence, author, submitter, editors, created_at, expires_at ON proposals
  FOR EACH ROW EXECUTE FUNCTION proposal_identity();
DO $$$$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['proposals', 'clearances', 'applies', 'orders', 'batches', 'batch_rows', 'bodies',
                             'artifacts', 'archived_items'] LOOP
    EXECUTE format(
      'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()',
      t);
  END LOOP;
END $$$$;

-- ------------------------------------------------------------------ partitions
CREATE FUNCTION id_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
  RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
COMMENT ON FUNCTION id_floor(timestamptz) IS 'The smallest time-ordered id of an instant.';

-- Row security and statement triggers are not inherited by a partition that is addressed directly, so each
-- partition gets row security without a policy, no grants, and its own TRUNCATE guard. Row triggers are inherited.
CREATE FUNCTION extend_partitions() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE t text; part text; month timestamptz; made int := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('shopfloor.partitions')) THEN RETURN 0; END IF;
  FOR t IN SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = '$schema'::regnamespace ORDER BY 1 LOOP
    FOR month IN SELECT generate_series(date_trunc('month', clock() AT TIME ZONE 'UTC') - interval '1 month',
                                        date_trunc('month', clock() AT TIME ZONE 'UTC') + interval '2 months',
                                        interval '1 month') AT TIME ZONE 'UTC' LOOP
      part := t || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
      CONTINUE WHEN to_regclass(format('$schema.%I', part)) IS NOT NULL;
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, t,
          id_floor(month), id_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
        PERFORM guard_partition(part);
        made := made + 1;
      EXCEPTION WHEN check_violation THEN
        NULL;  -- Rows of this month came before its partition: they are in `_other`, and so is what follows them.
      END;
    END LOOP;
    part := t || '_other';
    IF to_regclass(format('$schema.%I', part)) IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', part, t);
      PERFORM guard_partition(part);
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END $$$$;

CREATE FUNCTION guard_partition(part text) RETURNS void LANGUAGE plpgsql SET search_path = $schema, pg_temp AS $$$$
BEGIN
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
  EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
  EXECUTE format(
    'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()',
    part);
END $$$$;
REVOKE ALL ON FUNCTION extend_partitions(), guard_partition(text) FROM PUBLIC;
