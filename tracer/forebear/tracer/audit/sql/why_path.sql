-- why_path(m, s): how a model (name or id) came to a shard: the fewest relations from it to a dataset that lists the shard among what
-- some model was trained on, step by step, then the smallest ids. `cleaned_from` and `deduplicated_from` are not walked: those rows
-- were not consumed. `forebear impact` gives channel and verdict too.
CREATE OR REPLACE MACRO audit.why_path(m, s) AS TABLE
WITH RECURSIVE walk(kind, id, child_kind, child, relation, depth) USING KEY (kind, id) AS (
    SELECT kind, id, NULL::VARCHAR, NULL::VARCHAR, NULL::VARCHAR, 0 FROM raw_node WHERE kind = 'model' AND (id = m OR name = m)
    UNION
    (
        SELECT
            r.parent_kind, r.parent,
            min_by(r.child_kind, (r.child, r.child_kind)), min(r.child), min_by(r.relation, (r.child, r.child_kind, r.relation)),
            min(w.depth) + 1
        FROM walk AS w
        JOIN raw_relation AS r ON r.child = w.id AND r.child_kind = w.kind
        LEFT JOIN recurring.walk AS known ON known.id = r.parent AND known.kind = r.parent_kind
        WHERE
            known.id IS NULL
            AND r.evidence <> 'contradicted'
            AND r.relation NOT IN ('tokenizer_from', 'evaluated_on', 'cleaned_from', 'deduplicated_from')
        GROUP BY r.parent_kind, r.parent
    )
),
target AS (
    SELECT w.id FROM walk AS w
    WHERE w.kind = 'dataset' AND w.id IN (SELECT u.dataset FROM raw_usage AS u WHERE u.shard = s)
    ORDER BY w.depth, w.id
    LIMIT 1
),
back(kind, id, child_kind, child, relation, depth) AS (
    SELECT w.* FROM walk AS w JOIN target AS t ON t.id = w.id AND w.kind = 'dataset'
    UNION
    SELECT w.* FROM back AS b JOIN walk AS w ON w.id = b.child AND w.kind = b.child_kind
)
SELECT depth AS step, child, relation, id AS parent FROM back WHERE depth > 0 ORDER BY depth;
COMMENT ON MACRO TABLE audit.why_path IS 'How a model came to a shard, step by step';
