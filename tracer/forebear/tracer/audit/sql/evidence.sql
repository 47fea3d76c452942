-- evidence: every score that a detector gave, flagged or not; `score` on the 1/1024 grid, `flag` the threshold in force
-- for the row's source; `start` and `stop` the byte range in the text's UTF-8.
CREATE OR REPLACE VIEW audit.evidence AS
WITH scored AS (
    SELECT
        run,
        shard,
        "row",
        document,
        coalesce(source, '') AS source,
        unnest(evidence) AS e
    FROM raw_evidence
)
SELECT
    s.run,
    'sha256:' || lower(hex(s.shard)) AS shard,
    s."row",
    'sha256:' || lower(hex(s.document)) AS document,
    'sha256:' || lower(hex(s.e.detector)) AS detector,
    s.e.label AS label,
    s.e.score / 1024 AS score,
    coalesce(own.flag, every.flag) / 1024 AS flag,
    s.e.start AS start,
    s.e.stop AS stop,
    s.e.item AS item
FROM scored AS s
LEFT JOIN raw_threshold AS own
    ON own.run = s.run AND own.detector = 'sha256:' || lower(hex(s.e.detector)) AND own.source = s.source
LEFT JOIN raw_threshold AS every
    ON every.run = s.run AND every.detector = 'sha256:' || lower(hex(s.e.detector)) AND every.source = '';
COMMENT ON VIEW audit.evidence IS 'Every score that a detector gave, flagged or not';
