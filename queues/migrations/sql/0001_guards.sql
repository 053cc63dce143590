-- Guards: what no role can do by mistake, and no statement can leave half done.

CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$$$
BEGIN
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$$$;

-- A published contract, floor or cell never changes; a decision, verdict, move or audit row neither.
DO $$$$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['contracts', 'cells', 'floors', 'decisions', 'audit', 'legal_moves', 'items', 'triggers', 'moves', 'verdicts', 'attempts'] LOOP
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse_rewrite()', t);
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()', t);
  END LOOP;
END $$$$;

-- ------------------------------------------------------------------ no state without its history
-- The move rows must be of this very transaction (at = clock()), continue the count, start where the item
-- stood and end where it stands. Links inside a chain of fused moves are checked by `doctor`.
CREATE FUNCTION guard_queue_insert() RETURNS trigger LANGUAGE plpgsql AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT n.item_id INTO bad FROM new_rows n
    LEFT JOIN moves m ON m.item_id = n.item_id AND m.no = n.move_no AND m.at = clock() AND m.fence = n.fence
    LEFT JOIN legal_moves l ON l.number = m.legal
   WHERE n.move_no <> 1 OR l.number IS NULL OR l.from_stage <> 'none' OR (l.to_stage, l.to_state) <> (n.stage, n.state)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % entered the queue without a legal move in the same transaction', bad USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER history_of_insert AFTER INSERT ON queue REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION guard_queue_insert();

CREATE FUNCTION guard_queue_update() RETURNS trigger LANGUAGE plpgsql AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT n.item_id INTO bad FROM new_rows n JOIN old_rows o ON o.item_id = n.item_id
    LEFT JOIN moves f ON f.item_id = n.item_id AND f.no = o.move_no + 1 AND f.at = clock()
    LEFT JOIN legal_moves fl ON fl.number = f.legal
    LEFT JOIN moves m ON m.item_id = n.item_id AND m.no = n.move_no AND m.at = clock() AND m.fence = n.fence
    LEFT JOIN legal_moves l ON l.number = m.legal
   WHERE (n.stage, n.state, n.fence, n.move_no) IS DISTINCT FROM (o.stage, o.state, o.fence, o.move_no)
     AND (fl.number IS NULL OR l.number IS NULL OR n.fence < o.fence
          OR (fl.from_stage, fl.from_state) <> (o.stage, o.state) OR (l.to_stage, l.to_state) <> (n.stage, n.state))
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % changed its stage or state without a legal move in the same transaction', bad USING ERRCODE = 'check_violation';
  END IF;
  IF EXISTS (SELECT FROM new_rows n JOIN old_rows o ON o.item_id = n.item_id
              WHERE (n.workspace_id, n.order_id, n.pod_id, n.flow) IS DISTINCT FROM (o.workspace_id, o.order_id, o.pod_id, o.flow)) THEN
    RAISE EXCEPTION 'workspace, order, pod and flow of an item never change' USING ERRCODE = 'check_violation';
  END IF;
  -- The only doors into apply are a cleared clearance of the item's own approved proposal.
  SELECT n.item_id INTO bad FROM new_rows n JOIN old_rows o ON o.item_id = n.item_id
   WHERE n.stage = 'apply' AND o.stage <> 'apply' AND NOT EXISTS (
     SELECT FROM proposals p JOIN clearances c ON c.proposal_id = p.id
      WHERE p.item_id = n.item_id AND p.state = 'approved' AND c.state = 'cleared' AND p.expires_at > clock()) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % has no cleared clearance: it cannot go to apply', bad USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER history_of_update AFTER UPDATE ON queue REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION guard_queue_update();

CREATE FUNCTION guard_queue_delete() RETURNS trigger LANGUAGE plpgsql AS $$$$
DECLARE bad uuid;
BEGIN
  SELECT o.item_id INTO bad FROM old_rows o
    LEFT JOIN archived_items a ON a.item_id = o.item_id
    LEFT JOIN moves m ON m.item_id = o.item_id AND m.no = a.move_no
    LEFT JOIN legal_moves l ON l.number = m.legal
    -- A pruned dead letter ends by the move that buried it; every other end has a move of this transaction.
   WHERE l.number IS NULL OR (l.to_stage, l.to_state) <> (a.stage, a.state)
      OR NOT (o.state = 'dead' AND a.move_no = o.move_no AND a.state = 'dead' OR m.at = clock() AND a.move_no > o.move_no)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'item % left the queue without its final move and archive row', bad USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER history_of_delete AFTER DELETE ON queue REFERENCING OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION guard_queue_delete();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON queue FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- ------------------------------------------------------------------ no apply without its approval
-- SECURITY DEFINER: the check reads what the apply role might be kept from seeing, whatever its setting says.
CREATE FUNCTION guard_apply() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE p proposals; c clearances; approvals int;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF (OLD.id, OLD.workspace_id, OLD.proposal_id, OLD.action_id, OLD.proposal_sha256, OLD.intent_at)
       IS DISTINCT FROM (NEW.id, NEW.workspace_id, NEW.proposal_id, NEW.action_id, NEW.proposal_sha256, NEW.intent_at)
       OR OLD.state IN ('applied', 'failed') THEN
      RAISE EXCEPTION 'apply % is finished, or its identity would change', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
  END IF;
  SELECT * INTO p FROM proposals WHERE id = NEW.proposal_id AND workspace_id = NEW.workspace_id FOR SHARE;
  SELECT * INTO c FROM clearances WHERE proposal_id = NEW.proposal_id AND workspace_id = NEW.workspace_id;
  SELECT count(DISTINCT d.actor_id) INTO approvals FROM decisions d
    JOIN actors a ON a.id = d.actor_id AND a.disabled_at IS NULL
   WHERE d.clearance_id = c.id AND d.decision = 'approve' AND d.proposal_sha256 = p.sha256
     AND d.expires_at > clock() AND a.name NOT IN (p.author, p.submitter) AND NOT a.name = ANY (p.editors);
  IF p.id IS NULL OR p.state <> 'approved' OR p.expires_at <= clock() OR c.state <> 'cleared'
     OR NEW.proposal_sha256 <> p.sha256 OR NEW.state <> 'intent' OR approvals < c.needed THEN
    RAISE EXCEPTION 'proposal % is not approved for apply: state %, clearance %, % of % approvals',
      NEW.proposal_id, p.state, c.state, approvals, c.needed USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$$$;
CREATE TRIGGER approved_only BEFORE INSERT OR UPDATE ON applies FOR EACH ROW EXECUTE FUNCTION guard_apply();

-- A proposal's identity is what was approved: only its state moves on.
CREATE FUNCTION guard_proposal() RETURNS trigger LANGUAGE plpgsql AS $$$$
BEGIN
  IF (OLD.id, OLD.workspace_id, OLD.item_id, OLD.order_id, OLD.action, OLD.target, OLD.adapter, OLD.sha256, OLD.precondition_sha256, OLD.epoch,
      OLD.finding, OLD.confidence, OLD.author, OLD.submitter, OLD.editors, OLD.created_at, OLD.expires_at)
     IS DISTINCT FROM
     (NEW.id, NEW.workspace_id, NEW.item_id, NEW.order_id, NEW.action, NEW.target, NEW.adapter, NEW.sha256, NEW.precondition_sha256, NEW.epoch,
      NEW.finding, NEW.confidence, NEW.author, NEW.submitter, NEW.editors, NEW.created_at, NEW.expires_at) THEN
    RAISE EXCEPTION 'proposal % is immutable but for its state', OLD.id USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF OLD.state IN ('applied', 'rejected', 'report_only') AND NEW.state <> OLD.state THEN
    RAISE EXCEPTION 'proposal % is %', OLD.id, OLD.state USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- Only the functions that check clearances may approve: they run as the owner of this table.
  IF NEW.state = 'approved' AND OLD.state <> 'approved'
     AND current_user <> (SELECT relowner::regrole::text FROM pg_class WHERE oid = TG_RELID) THEN
    RAISE EXCEPTION 'proposal % is approved through decide() alone', OLD.id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$$$;
CREATE TRIGGER identity_stays BEFORE UPDATE ON proposals FOR EACH ROW EXECUTE FUNCTION guard_proposal();
CREATE FUNCTION guard_new_proposal() RETURNS trigger LANGUAGE plpgsql AS $$$$
BEGIN
  IF EXISTS (SELECT FROM new_rows WHERE state NOT IN ('open', 'report_only')) THEN
    RAISE EXCEPTION 'a proposal starts open' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$$$;
CREATE TRIGGER starts_open AFTER INSERT ON proposals REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION guard_new_proposal();
DO $$$$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['proposals', 'clearances', 'applies', 'orders', 'batches', 'batch_rows', 'bodies', 'artifacts', 'archived_items'] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()', t);
  END LOOP;
END $$$$;

-- ------------------------------------------------------------------ partitions
CREATE FUNCTION id_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
  AS $$$$SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid$$$$;
COMMENT ON FUNCTION id_floor(timestamptz) IS 'The smallest time-ordered id of an instant.';

-- Row security and statement triggers are not inherited by a partition that is addressed directly, so each
-- partition gets row security without a policy, no grants, and its own TRUNCATE guard. Row triggers are inherited.
CREATE FUNCTION extend_partitions() RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
DECLARE t text; part text; month timestamptz; made int := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('shopfloor.partitions')) THEN RETURN 0; END IF;
  FOR t IN SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = '$schema'::regnamespace ORDER BY 1 LOOP
    FOR month IN SELECT generate_series(date_trunc('month', clock() AT TIME ZONE 'UTC') - interval '1 month',
                                        date_trunc('month', clock() AT TIME ZONE 'UTC') + interval '2 months', interval '1 month') AT TIME ZONE 'UTC' LOOP
      part := t || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
      CONTINUE WHEN to_regclass(format('$schema.%I', part)) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, t,
        id_floor(month), id_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
      PERFORM guard_partition(part);
      made := made + 1;
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

CREATE FUNCTION guard_partition(part text) RETURNS void LANGUAGE plpgsql AS $$$$
BEGIN
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
  EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
  EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()', part);
END $$$$;
REVOKE ALL ON FUNCTION extend_partitions(), guard_partition(text) FROM PUBLIC;
