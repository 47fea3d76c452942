-- shard: one row for every shard of every run; `documents_digest` stays the same under re-compression.
CREATE OR REPLACE VIEW audit.shard AS
SELECT
    'sha256:' || lower(hex(shard)) AS shard,
    'sha256:' || lower(hex(documents_digest)) AS documents_digest,
    'sha256:' || lower(hex(log_digest)) AS log_digest,
    paths[1] AS path,
    paths,
    format,
    bytes,
    rows,
    kept,
    dropped,
    errored,
    source,
    run
FROM raw_shard;
COMMENT ON VIEW audit.shard IS 'One row for every shard that a run scanned';
