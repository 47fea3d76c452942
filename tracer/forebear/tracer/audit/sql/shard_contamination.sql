-- shard_contamination: contaminated rows and documents of every scanned shard, by class; a clean shard has zeros.
CREATE OR REPLACE VIEW audit.shard_contamination AS
WITH classes AS (
    SELECT DISTINCT t.run, d.class FROM raw_threshold AS t JOIN raw_detector AS d USING (detector)
)
SELECT
    s.run,
    s.shard,
    s.path,
    c.class,
    s.rows,
    count(DISTINCT b."row") AS contaminated_rows,
    count(DISTINCT b.document) AS contaminated_documents,
    s.errored AS errored_rows
FROM audit.shard AS s
JOIN classes AS c ON c.run = s.run
LEFT JOIN audit.contamination AS b ON b.run = s.run AND b.shard = s.shard AND b.class = c.class
GROUP BY ALL;
COMMENT ON VIEW audit.shard_contamination IS 'Contaminated rows of every scanned shard, by class';
