-- Reads that need more than the caller's own privileges: ids and names across workspaces, text of one workspace.
-- Each is SECURITY DEFINER with a fixed search_path.

-- Which workspaces and pods have ready work in a lane: ids alone. A loose index scan: one probe a pair.
CREATE FUNCTION lane_backlog(p_lane text, p_limit int)
RETURNS TABLE (workspace_id uuid, pod_id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$$$
#variable_conflict use_column
BEGIN
  -- In PL/pgSQL, which keeps its plan from one call to the next.
  RETURN QUERY WITH RECURSIVE pairs AS (
    (SELECT q.workspace_id, q.pod_id, 1 AS n
       FROM queue q
      WHERE q.ready_lane = p_lane
      ORDER BY q.workspace_id, q.pod_id
      LIMIT 1)
    UNION ALL
    SELECT next.workspace_id, next.pod_id, pairs.n + 1 FROM pairs, LATERAL (
      SELECT q.workspace_id, q.pod_id FROM queue q
       WHERE q.ready_lane = p_lane AND (q.workspace_id, q.pod_id) > (pairs.workspace_id, pairs.pod_id)
       ORDER BY q.workspace_id, q.pod_id LIMIT 1) next
     WHERE pairs.n < p_limit)
  SELECT pairs.workspace_id, pairs.pod_id FROM pairs
   WHERE NOT EXISTS (SELECT FROM pauses p WHERE p.lifted_at IS NULL AND (p.until IS NULL OR p.until > clock())
     AND (p.kind = 'all'
          OR p.workspace_id = pairs.workspace_id
             AND (p.kind = 'workspace'
                  OR p.kind = 'pod' AND p.scope = pairs.pod_id::text
                  OR p.kind IN ('lane', 'cell') AND p.scope = p_lane)));
END $$$$;

-- Lanes in which something is ready, now or after a backoff, so that the sweeper can ring them. One probe a lane: a
-- ring that came too early costs one claim of nothing.
CREATE FUNCTION lanes_due() RETURNS TABLE (lane text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$$$
  WITH RECURSIVE names AS (
    (SELECT q.ready_lane FROM queue q WHERE q.ready_lane IS NOT NULL ORDER BY q.ready_lane LIMIT 1)
    UNION ALL
    SELECT next.ready_lane FROM names, LATERAL (
      SELECT q.ready_lane FROM queue q WHERE q.ready_lane > names.ready_lane ORDER BY q.ready_lane LIMIT 1) next)
  SELECT ready_lane FROM names
$$$$;

-- The indexed subjects of a flow by key: the gate checks quotes against them. Of one workspace, like every read of
-- text.
CREATE FUNCTION subjects_by_key(p_workspace uuid, p_flow text, p_keys text[])
RETURNS TABLE (key text, revision text, kind text, state text, title text, body text, facts text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp AS $$$$
  SELECT s.key, s.revision, s.kind, s.state, s.title, s.body, s.facts FROM subjects s
   WHERE p_workspace = ANY (workspaces_in_use())
     AND s.workspace_id = p_workspace
     AND s.flow = p_flow
     AND s.key = ANY (p_keys)
$$$$;

-- Those of some names that a row gives to bytes: as an artifact, a payload, what an attempt took or gave, or the value
-- that this is about (its only name, when the gate before the shelf turned it away). Names alone: the sweeper removes
-- files that have none, of all workspaces, and reads nobody's text. Each table is read once, however many names there
-- are.
CREATE FUNCTION named_bytes(p_names bytea[]) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = $schema, pg_temp
-- A list is hashed only where the plan knows it: in a generic plan it is compared word by word.
SET plan_cache_mode = force_custom_plan AS $$$$
DECLARE
  plain bytea[] := ARRAY(
    SELECT sha256 FROM artifacts WHERE sha256 = ANY (p_names)
     UNION SELECT payload_sha256 FROM items WHERE payload_sha256 = ANY (p_names)
     UNION SELECT input_sha256 FROM attempts WHERE input_sha256 = ANY (p_names)
     UNION SELECT output_sha256 FROM attempts WHERE output_sha256 = ANY (p_names));
  rest text[] := ARRAY(SELECT encode(name, 'hex')
                         FROM (SELECT unnest(p_names) EXCEPT SELECT unnest(plain)) AS t (name));
BEGIN
  RETURN QUERY SELECT unnest(plain);
  IF rest <> '{}' THEN
    RETURN QUERY SELECT DISTINCT decode(w.value, 'hex')
      -- The last of its keys, read as text: what cells wrote may hold what no JSON type here can.
      FROM (SELECT CASE WHEN sha256(b.bytes) = b.sha256
                        THEN substring(encode(b.bytes, 'escape') FROM '^.*"value":"([0-9a-f]{64})"') END AS value
              FROM attempts t JOIN bodies b ON b.item_id = t.item_id AND b.sha256 = t.output_sha256) w
     WHERE w.value = ANY (rest);
  END IF;
END $$$$;
