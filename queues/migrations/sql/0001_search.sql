-- Candidate search: which known subjects resemble this one, and which name it. The tables are those of 0001_subjects.

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
