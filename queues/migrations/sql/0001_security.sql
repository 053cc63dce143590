-- Row security on every table of a workspace, and grants role by role. Nothing is granted that is not named here.

REVOKE ALL ON SCHEMA $schema FROM PUBLIC;
GRANT USAGE ON SCHEMA $schema TO $everyone;
GRANT SELECT ON schema_version TO $everyone;

DO $$$$
DECLARE t record;
BEGIN
  FOR t IN SELECT c.relname, c.oid FROM pg_class c
            WHERE c.relnamespace = '$schema'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
              AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'workspace_id') LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t.relname);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t.relname);
    -- The owner runs migrations and the definer functions, which filter the workspace themselves.
    EXECUTE format('CREATE POLICY owner_all ON %I TO $owner USING (true) WITH CHECK (true)', t.relname);
    -- In a sub-select, so that the setting is read once a statement and not once a row.
    EXECUTE format('CREATE POLICY own_workspace ON %I TO $screens '
                   'USING (workspace_id = ANY ((SELECT workspaces_in_use())::uuid[])) '
                   'WITH CHECK (workspace_id = ANY ((SELECT workspaces_in_use())::uuid[]))', t.relname);
    -- The same, in words that no index matches: these roles read by id, and a plan that was made while a table was
    -- small must not read all of a workspace instead, for as long as the session lives.
    EXECUTE format('CREATE POLICY own_workspace_by_id ON %I TO $writers '
                   'USING ((workspace_id = ANY ((SELECT workspaces_in_use())::uuid[])) IS TRUE) '
                   'WITH CHECK (workspace_id = ANY ((SELECT workspaces_in_use())::uuid[]))', t.relname);
    EXECUTE format('CREATE POLICY sweep_all ON %I TO ${prefix}sweep USING (true) WITH CHECK (true)', t.relname);
    EXECUTE format('CREATE POLICY audit_reads ON %I FOR SELECT TO ${prefix}audit USING (true)', t.relname);
  END LOOP;
END $$$$;
ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspaces FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_all ON workspaces TO $owner USING (true) WITH CHECK (true);
CREATE POLICY own_workspace ON workspaces TO $tenants USING (id = ANY ((SELECT workspaces_in_use())::uuid[]));
CREATE POLICY all_names ON workspaces FOR SELECT TO ${prefix}sweep, ${prefix}audit USING (true);
-- A pause on everything belongs to no workspace: everybody sees it, operators set it.
CREATE POLICY everywhere ON pauses FOR SELECT TO $tenants USING (workspace_id IS NULL);
CREATE POLICY set_everywhere ON pauses TO ${prefix}operate
  USING (workspace_id IS NULL)
  WITH CHECK (workspace_id IS NULL);
CREATE POLICY everywhere ON audit FOR SELECT TO ${prefix}operate USING (workspace_id IS NULL);

-- Each role records only the moves that the lifecycle gives it.
$move_policies

-- ------------------------------------------------------------------ reading
GRANT SELECT ON workspaces, pods, actors, roles, contracts, cells, floors, triggers, batches, batch_rows, orders, items,
  queue, archived_items, legal_moves, moves, attempts, workers, claims, lanes, pauses, lane_minutes, artifacts,
  artifact_inputs, evidence, verdicts, findings, proposals, clearances, decisions, applies TO $everyone;
-- Bodies are what people wrote: read where it is worked with, looked at or decided on.
GRANT SELECT ON bodies
  TO ${prefix}intake, ${prefix}propose, ${prefix}apply, ${prefix}review, ${prefix}operate, ${prefix}read,
     ${prefix}audit;
GRANT SELECT ON audit TO ${prefix}operate, ${prefix}audit;
GRANT SELECT (id, workspace_id, actor_id, label, created_at, expires_at, revoked_at) ON tokens
  TO ${prefix}operate, ${prefix}audit;

-- ------------------------------------------------------------------ intake
GRANT INSERT ON triggers, batches, batch_rows, orders, items, queue, moves, bodies, archived_items TO ${prefix}intake;
GRANT UPDATE (state, rows_read, accepted, rejected, duplicate, context, superseded, as_of, read_at, source_sha256,
              finished_at, error)
  ON batches TO ${prefix}intake;
GRANT UPDATE (state, closed_at, finding) ON orders TO ${prefix}intake;
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}intake;

-- ------------------------------------------------------------------ propose
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}propose;
GRANT INSERT ON moves, attempts, bodies, artifacts, artifact_inputs, evidence, verdicts, findings, archived_items
  TO ${prefix}propose;
GRANT UPDATE (state, closed_at, finding) ON orders TO ${prefix}propose;

-- ------------------------------------------------------------------ apply: no proposals of its own
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}apply;
GRANT INSERT ON moves, attempts, bodies, artifacts, findings, archived_items TO ${prefix}apply;
GRANT INSERT ON applies TO ${prefix}apply;
GRANT UPDATE (state, finished_at, receipt, fence) ON applies TO ${prefix}apply;
GRANT UPDATE (state, closed_at, finding) ON orders TO ${prefix}apply;
GRANT UPDATE (state) ON proposals TO ${prefix}apply;

GRANT INSERT, UPDATE ON workers, claims TO ${prefix}propose, ${prefix}apply;
-- A lease is its holder's: neither of the two may end, renew or retire what the other holds.
DO $$$$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['workers', 'claims'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO $owner USING (true) WITH CHECK (true)', t);
    EXECUTE format('CREATE POLICY seen_by_all ON %I FOR SELECT TO $everyone USING (true)', t);
    EXECUTE format(
      'CREATE POLICY its_own ON %I TO ${prefix}propose, ${prefix}apply '
      'USING (login = current_user) WITH CHECK (login = current_user)',
      t);
    EXECUTE format('CREATE POLICY sweep_all ON %I TO ${prefix}sweep USING (true) WITH CHECK (true)', t);
  END LOOP;
END $$$$;
GRANT INSERT, UPDATE ON lane_minutes TO ${prefix}propose, ${prefix}apply, ${prefix}sweep;
GRANT DELETE ON lane_minutes TO ${prefix}sweep;

-- ------------------------------------------------------------------ review: moves alone; decisions go through decide()
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}review;
GRANT INSERT ON moves, archived_items, findings TO ${prefix}review;
GRANT UPDATE (state, closed_at, finding) ON orders TO ${prefix}review;

-- ------------------------------------------------------------------ operate
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}operate;
GRANT INSERT ON moves, archived_items, findings TO ${prefix}operate;
GRANT UPDATE (state, closed_at, finding, withdrawn_at) ON orders TO ${prefix}operate;
GRANT INSERT ON pauses, lanes, pods TO ${prefix}operate;
GRANT UPDATE (lifted_at, lifted_by) ON pauses TO ${prefix}operate;
GRANT UPDATE (max_active, per_minute, changed_at, changed_by) ON lanes TO ${prefix}operate;
GRANT UPDATE (autonomy) ON pods TO ${prefix}operate;
GRANT INSERT ON workspaces, actors, roles, floors, contracts, cells, tokens TO ${prefix}operate;
GRANT UPDATE (disabled_at) ON actors TO ${prefix}operate;
GRANT UPDATE (revoked_at) ON tokens TO ${prefix}operate;
GRANT DELETE ON roles TO ${prefix}operate;
CREATE POLICY new_workspace ON workspaces FOR INSERT TO ${prefix}operate WITH CHECK (true);

-- ------------------------------------------------------------------ sweep
GRANT DELETE, UPDATE $movable ON queue TO ${prefix}sweep;
GRANT INSERT ON moves, archived_items, findings TO ${prefix}sweep;
GRANT UPDATE (closed_at) ON claims TO ${prefix}sweep;
GRANT UPDATE (stopped_at, ended) ON workers TO ${prefix}sweep;
GRANT UPDATE (state, closed_at, finding) ON orders TO ${prefix}sweep;
GRANT UPDATE (state, error, finished_at) ON batches TO ${prefix}sweep;

-- ------------------------------------------------------------------ functions
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA $schema FROM PUBLIC;
GRANT EXECUTE ON FUNCTION clock(), workspaces_in_use(), workspace_named(text), id_floor(timestamptz) TO $everyone;
GRANT EXECUTE ON FUNCTION record_audit(uuid, text, text, text, text)
  TO ${prefix}intake, ${prefix}propose, ${prefix}apply, ${prefix}operate, ${prefix}review, ${prefix}sweep;
GRANT EXECUTE ON FUNCTION actor_of(bytea) TO ${prefix}intake, ${prefix}review, ${prefix}operate, ${prefix}read;
GRANT EXECUTE ON FUNCTION lane_backlog(text, int) TO ${prefix}propose, ${prefix}apply;
GRANT EXECUTE ON FUNCTION all_workspaces() TO ${prefix}propose, ${prefix}apply, ${prefix}operate;
GRANT EXECUTE ON FUNCTION lanes_due() TO ${prefix}sweep, ${prefix}operate;
GRANT EXECUTE ON FUNCTION propose(uuid[], uuid[], text[], text[], text[], bytea[], bytea[], int[], text[], real[],
  text[], timestamptz[], int[], int[], text[], uuid[], int) TO ${prefix}propose;
GRANT EXECUTE ON FUNCTION decide(uuid, bytea, uuid, bytea, text, text) TO ${prefix}review;
GRANT EXECUTE ON FUNCTION approvals_hold(uuid, int) TO ${prefix}apply;
GRANT EXECUTE ON FUNCTION resolve_apply(bytea, uuid, text, text) TO ${prefix}operate;
GRANT EXECUTE ON FUNCTION void_proposals(uuid[], text) TO ${prefix}intake, ${prefix}operate, ${prefix}sweep;
GRANT EXECUTE ON FUNCTION named_bytes(bytea[]) TO ${prefix}sweep, ${prefix}audit;
GRANT EXECUTE ON FUNCTION extend_partitions() TO ${prefix}sweep;
GRANT EXECUTE ON FUNCTION index_subjects(uuid, text, text[], text[], smallint[], float8[], text[], text[], text[],
  text[], text[], text[], text[]), refresh_lexicon(uuid, text) TO ${prefix}intake;
GRANT EXECUTE ON FUNCTION outdate_subjects(uuid, text, text[], text[]) TO ${prefix}operate;
GRANT EXECUTE ON FUNCTION search_subjects(uuid, text, integer[], text[], text[], text[], integer, integer),
  mentions_of(uuid, text, text[], integer), subjects_by_key(uuid, text, text[])
  TO ${prefix}propose, ${prefix}review, ${prefix}read;
GRANT EXECUTE ON FUNCTION may_search(uuid), subject_words(uuid, text, text, text) TO $everyone;
