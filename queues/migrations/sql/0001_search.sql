-- Candidate search: which known subjects resemble this one, and which name it.
--
-- Row security keeps the planner from using a GIN index (@@ is not leakproof), so text is reached only
-- through the SECURITY DEFINER functions below. Each takes the workspace first and checks it against
-- the session's own list; a reader outside its workspace gets no rows, a writer is refused. They need an
-- owner that row security lets through: a superuser, BYPASSRLS, or a policy `TO owner USING (true)`.

CREATE TABLE subjects (
    workspace_id uuid NOT NULL,
    flow text NOT NULL,
    key text NOT NULL,
    revision text NOT NULL,
    revision_rank smallint NOT NULL,
    revision_number double precision NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    facts text NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (workspace_id, flow, key)
);
COMMENT ON TABLE subjects IS 'the newest known revision of every row of an indexed flow, context rows included';
COMMENT ON COLUMN subjects.revision_number IS
    'with revision_rank, what intake compares this revision by; equal ones go by their text';
COMMENT ON COLUMN subjects.facts IS 'the other normalised fields, as JSON text';
COMMENT ON COLUMN subjects.words IS 'title (weight A), start of the body (B), and one lexeme @workspace/flow';

-- Each vector carries its workspace and flow as a lexeme, and every query asks for it: the index itself
-- then intersects, and a word that is rare here costs nothing for being common next door.
CREATE INDEX subjects_words ON subjects USING gin (words);

CREATE TABLE lexicon (
    workspace_id uuid NOT NULL,
    flow text NOT NULL,
    word text NOT NULL,
    documents integer NOT NULL CHECK (documents > 0),
    PRIMARY KEY (workspace_id, flow, word)
);
COMMENT ON TABLE lexicon IS 'in how many subjects a word occurs; the empty word counts the subjects themselves';

CREATE TABLE mentions (
    workspace_id uuid NOT NULL,
    flow text NOT NULL,
    to_key text NOT NULL,
    from_key text NOT NULL,
    PRIMARY KEY (workspace_id, flow, to_key, from_key)
);
COMMENT ON TABLE mentions IS 'the text of from_key names to_key';
CREATE INDEX mentions_from ON mentions (workspace_id, flow, from_key);


CREATE FUNCTION may_search(workspace uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(workspace = ANY (shopfloor.workspaces_in_use()), false);
COMMENT ON FUNCTION may_search(uuid) IS 'true when the session works for this workspace';


CREATE FUNCTION subject_words(workspace uuid, flow text, title text, body text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- 8,000 characters hold what a report is about; the rest of a long body is logs.
    SELECT setweight(to_tsvector('english', left(title, 2000)), 'A')
        || setweight(to_tsvector('english', left(body, 8000)), 'B')
        || array_to_tsvector(ARRAY['@' || workspace || '/' || flow])
$$;


CREATE FUNCTION index_subjects(
    workspace uuid, flow text,
    keys text[], revisions text[], ranks smallint[], numbers double precision[], kinds text[], states text[],
    titles text[], bodies text[], facts text[],
    mention_from text[] DEFAULT '{}', mention_to text[] DEFAULT '{}'
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = shopfloor, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    written text[];
BEGIN
    IF NOT may_search(workspace) THEN
        RAISE EXCEPTION 'subjects of workspace % cannot be indexed: the session does not work for it', workspace
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    -- The last of equal keys wins unless its revision is older. Ordered by key: two batches that
    -- overlap then lock in the same order.
    WITH offered AS (
        SELECT DISTINCT ON (o.key COLLATE "C") o.*
        FROM unnest(keys, revisions, ranks, numbers, kinds, states, titles, bodies, facts) WITH ORDINALITY
            AS o (key, revision, rank, number, kind, state, title, body, facts, no)
        ORDER BY o.key COLLATE "C", o.rank DESC, o.number DESC, o.revision COLLATE "C" DESC, o.no DESC
    ),
    stored AS (
        INSERT INTO subjects AS s
            (workspace_id, flow, key, revision, revision_rank, revision_number, kind, state, title, body, facts, words)
        SELECT index_subjects.workspace, index_subjects.flow, key, revision, rank, number, kind, state, title,
            left(body, 65536), facts,
            subject_words(index_subjects.workspace, index_subjects.flow, title, body)
        FROM offered
        ORDER BY key COLLATE "C"
        ON CONFLICT (workspace_id, flow, key) DO UPDATE
        SET revision = excluded.revision, revision_rank = excluded.revision_rank,
            revision_number = excluded.revision_number, kind = excluded.kind, state = excluded.state,
            title = excluded.title, body = excluded.body, facts = excluded.facts, words = excluded.words
        WHERE (s.revision_rank, s.revision_number, s.revision COLLATE "C")
           <= (excluded.revision_rank, excluded.revision_number, excluded.revision COLLATE "C")
        RETURNING s.key
    )
    SELECT coalesce(array_agg(key), '{}') INTO written FROM stored;

    DELETE FROM mentions m
    WHERE m.workspace_id = index_subjects.workspace AND m.flow = index_subjects.flow AND m.from_key = ANY (written);

    INSERT INTO mentions (workspace_id, flow, to_key, from_key)
    SELECT DISTINCT index_subjects.workspace, index_subjects.flow, m.to_key, m.from_key
    FROM unnest(mention_from, mention_to) AS m (from_key, to_key)
    -- A name longer than any real one is a stranger's joke, and would not fit an index.
    WHERE m.from_key = ANY (written) AND m.from_key <> m.to_key AND length(m.to_key) <= 400
    ORDER BY 3, 4
    ON CONFLICT DO NOTHING;

    RETURN cardinality(written);
END
$$;
COMMENT ON FUNCTION index_subjects IS
    'stores or replaces subjects by newer revisions, with the keys that each names; returns how many were written';


CREATE FUNCTION refresh_lexicon(workspace uuid, flow text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = shopfloor, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    total integer;
    stride integer;
    counted integer;
BEGIN
    IF NOT may_search(workspace) THEN
        RAISE EXCEPTION 'the lexicon of workspace % cannot be refreshed: the session does not work for it', workspace
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Two refreshes of one flow would deadlock on each other's words.
    PERFORM pg_advisory_xact_lock(hashtextextended('lexicon ' || workspace || '/' || flow, 0));
    PERFORM gin_clean_pending_list('subjects_words'::regclass);

    SELECT count(*) INTO total FROM subjects s
    WHERE s.workspace_id = refresh_lexicon.workspace AND s.flow = refresh_lexicon.flow;
    -- Past 50,000 subjects every stride-th is read: enough to tell rare from common, at a bounded cost.
    stride := greatest(1, ceil(total / 50000.0));

    DELETE FROM lexicon l WHERE l.workspace_id = refresh_lexicon.workspace AND l.flow = refresh_lexicon.flow;
    INSERT INTO lexicon (workspace_id, flow, word, documents)
    SELECT refresh_lexicon.workspace, refresh_lexicon.flow, word, ndoc * stride
    FROM ts_stat(format(
        'SELECT words FROM shopfloor.subjects WHERE workspace_id = %L AND flow = %L AND hashtext(key) %% %s = 0',
        workspace, flow, stride))
    WHERE word NOT LIKE '@%' AND length(word) <= 80;
    GET DIAGNOSTICS counted = ROW_COUNT;
    INSERT INTO lexicon (workspace_id, flow, word, documents)
    SELECT refresh_lexicon.workspace, refresh_lexicon.flow, '', total WHERE total > 0;
    RETURN counted;
END
$$;
COMMENT ON FUNCTION refresh_lexicon IS
    'counts in how many subjects each word occurs; call once after a batch was indexed';


CREATE FUNCTION search_subjects(
    workspace uuid, flow text, asks integer[], keys text[], terms text[], kinds text[] DEFAULT NULL,
    per_ask integer DEFAULT 20, body_chars integer DEFAULT 1000
) RETURNS TABLE (
    ask integer, key text, revision text, kind text, state text, title text, body text, facts text,
    matched integer, of_terms integer, score double precision
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shopfloor, pg_temp
-- The rows of one word are few by construction, but the planner sees only a variable and would scan.
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    total integer;
    ceiling integer;
    home tsquery;
BEGIN
    IF NOT may_search(workspace) THEN
        RETURN;
    END IF;
    SELECT l.documents INTO total FROM lexicon l
    WHERE l.workspace_id = search_subjects.workspace AND l.flow = search_subjects.flow AND l.word = '';
    IF total IS NULL THEN
        RETURN;
    END IF;
    -- A word in more subjects than this is left out: 2 % of a small tracker, never more than 400, so
    -- that eight words touch at most 3,200 rows however many there are.
    ceiling := least(greatest(total / 50, 20), 400);
    home := quote_literal('@' || workspace || '/' || flow)::tsquery;

    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT a.ask, a.key, w.lexeme
        FROM unnest(asks, keys, terms) AS a (ask, key, term),
            unnest(to_tsvector('english', left(a.term, 2000))) AS w
    ),
    rare AS MATERIALIZED (
        SELECT r.* FROM (
            SELECT a.ask, a.key, a.lexeme, quote_literal(a.lexeme)::tsquery && home AS query,
                ln((total + 1.0) / l.documents) AS weight,
                row_number() OVER (PARTITION BY a.ask ORDER BY l.documents, a.lexeme) AS place
            FROM asked a
            JOIN lexicon l ON l.workspace_id = search_subjects.workspace AND l.flow = search_subjects.flow
                AND l.word = a.lexeme
            -- A word that occurs in one subject occurs in the asking one.
            WHERE l.documents <= ceiling AND (l.documents > 1 OR a.key IS NULL)
        ) r WHERE r.place <= 8
    ),
    hits AS MATERIALIZED (
        SELECT w.query, s.key
        FROM (SELECT DISTINCT r.query FROM rare r) w
        -- One index scan a word, and none of the (large, out-of-line) vectors is read again: the index
        -- alone answers a query without weights.
        CROSS JOIN LATERAL (
            SELECT i.key FROM subjects i
            WHERE i.words @@ w.query
                -- Checks, not ways in: with "=" a planner without statistics walks the primary key instead.
                AND i.workspace_id IS NOT DISTINCT FROM search_subjects.workspace
                AND i.flow IS NOT DISTINCT FROM search_subjects.flow
                AND (kinds IS NULL OR i.kind = ANY (kinds))
        ) s
    ),
    ranked AS (
        SELECT r.ask, h.key, count(*)::integer AS matched, sum(r.weight)::double precision AS score,
            row_number() OVER (PARTITION BY r.ask ORDER BY sum(r.weight) DESC, h.key COLLATE "C") AS place
        FROM rare r
        JOIN hits h ON h.query = r.query
        WHERE h.key IS DISTINCT FROM r.key
        GROUP BY r.ask, h.key
    )
    SELECT k.ask, s.key, s.revision, s.kind, s.state, s.title, left(s.body, body_chars), s.facts,
        k.matched, n.of_terms, k.score
    FROM ranked k
    JOIN (SELECT r.ask, count(*)::integer AS of_terms FROM rare r GROUP BY r.ask) n ON n.ask = k.ask
    JOIN subjects s ON s.workspace_id = search_subjects.workspace AND s.flow = search_subjects.flow AND s.key = k.key
    WHERE k.place <= per_ask
    ORDER BY k.ask, k.place;
END
$$;
COMMENT ON FUNCTION search_subjects IS
    'for each ask, the subjects that share its rarest words, best first; asks, keys and terms run in parallel, '
    'an ask may have several';


CREATE FUNCTION mentions_of(
    workspace uuid, flow text, keys text[], per_key integer DEFAULT 50
) RETURNS TABLE (
    asked text, key text, revision text, kind text, state text, title text, body text, facts text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = shopfloor, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF NOT may_search(workspace) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT a.asked, m.key, m.revision, m.kind, m.state, m.title, m.body, m.facts
    FROM (SELECT DISTINCT unnest(mentions_of.keys)) AS a (asked)
    CROSS JOIN LATERAL (
        SELECT s.* FROM (
            -- What a thousand rows name is a landmark; reading more of them tells nothing new.
            SELECT m.from_key FROM mentions m
            WHERE m.workspace_id = mentions_of.workspace AND m.flow = mentions_of.flow AND m.to_key = a.asked
            ORDER BY m.from_key
            LIMIT 1000
        ) f
        JOIN subjects s ON s.workspace_id = mentions_of.workspace AND s.flow = mentions_of.flow AND s.key = f.from_key
        -- Pull requests say what they resolve; of equals the latest revision speaks.
        ORDER BY s.kind DESC, s.revision COLLATE "C" DESC, s.key
        LIMIT per_key
    ) m
    ORDER BY a.asked, m.kind DESC, m.revision COLLATE "C" DESC, m.key;
END
$$;
COMMENT ON FUNCTION mentions_of IS 'the subjects whose text names each key, pull requests first';
