-- contamination: rows that some detector scored at or above the flag threshold in force, whatever became of them.
CREATE OR REPLACE VIEW audit.contamination AS
SELECT
    f.run,
    'sha256:' || lower(hex(f.shard)) AS shard,
    f."row",
    'sha256:' || lower(hex(f.document)) AS document,
    f.source,
    f.words,
    f.action,
    f.reasons,
    'sha256:' || lower(hex(f.detector)) AS detector,
    f.category AS class,
    f.label,
    f.item,
    f.score / 1024 AS score,
    f.flag / 1024 AS flag
FROM raw_flagged AS f
WHERE f.detector IS NOT NULL;
COMMENT ON VIEW audit.contamination IS 'Rows at or above a flag threshold, whatever became of them';
