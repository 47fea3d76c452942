-- decision: the cleaning log. One row for every row of every scanned shard; (run, shard, row) is a key.
-- `jaccard` is measured with the keeper: intersection / union_size.
CREATE OR REPLACE VIEW audit.decision AS
SELECT
    run,
    'sha256:' || lower(hex(shard)) AS shard,
    "row",
    'sha256:' || lower(hex(document)) AS document,
    source_id,
    source,
    bytes,
    words,
    action,
    reasons,
    'sha256:' || lower(hex(keeper_document)) AS keeper_document,
    'sha256:' || lower(hex(keeper_shard)) AS keeper_shard,
    keeper_row,
    intersection,
    union_size,
    intersection / union_size AS jaccard,
    'sha256:' || lower(hex(cluster)) AS cluster
FROM raw_decision;
COMMENT ON VIEW audit.decision IS 'The cleaning log: one row for every row of every scanned shard';
