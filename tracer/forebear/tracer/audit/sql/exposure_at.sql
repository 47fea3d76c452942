-- exposure_at(m, d, t): what a model (name or id) and everything above it consumed at another threshold t of detector d
-- (name or digest), counted from the logged scores. `forebear trace --threshold` gives the verdict.
CREATE OR REPLACE MACRO audit.exposure_at(m, d, t) AS TABLE
WITH RECURSIVE up AS (
    SELECT id FROM raw_node WHERE kind = 'model' AND (id = m OR name = m)
    UNION
    SELECT r.parent FROM up JOIN raw_relation AS r ON r.child = up.id
    WHERE r.evidence <> 'contradicted' AND r.relation NOT IN ('tokenizer_from', 'evaluated_on')
)
SELECT
    u.model AS ancestor,
    u.dataset,
    count(DISTINCT e.document) AS documents,
    count(DISTINCT (e.shard, e."row")) AS rows
FROM up
JOIN raw_usage AS u ON u.model = up.id
JOIN audit.evidence AS e
    ON e.shard = u.shard AND (u.first_row IS NULL OR e."row" >= u.first_row) AND (u.last_row IS NULL OR e."row" < u.last_row)
JOIN raw_detector AS k ON k.detector = e.detector
WHERE (k.name = d OR k.detector = d) AND e.score >= t
GROUP BY u.model, u.dataset;
COMMENT ON MACRO TABLE audit.exposure_at IS 'What a model and its ancestors consumed at another threshold';
