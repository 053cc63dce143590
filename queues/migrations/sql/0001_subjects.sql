-- Subjects: the text of the newest known revisions, and the words and mentions by which 0001_search finds them.
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


CREATE FUNCTION outdate_subjects(workspace uuid, flow text, keys text[], revisions text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = shopfloor, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    outdated integer;
BEGIN
    IF NOT may_search(workspace) THEN
        RAISE EXCEPTION 'subjects of workspace % cannot be outdated: the session does not work for it', workspace
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Below every rank that a revision can have.
    UPDATE subjects s
    SET revision_rank = -1
    FROM unnest(outdate_subjects.keys, outdate_subjects.revisions) AS o (key, revision)
    WHERE s.workspace_id = outdate_subjects.workspace AND s.flow = outdate_subjects.flow
        AND s.key = o.key AND s.revision = o.revision;
    GET DIAGNOSTICS outdated = ROW_COUNT;
    RETURN outdated;
END
$$;
COMMENT ON FUNCTION outdate_subjects IS
    'lets any revision replace these ones of their subjects; until then they are still found';


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
