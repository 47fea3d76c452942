-- cleaned: shards that runs wrote. Row k of `shard` is the k-th kept row of `source`.
CREATE OR REPLACE VIEW audit.cleaned AS
SELECT 'sha256:' || lower(hex(source)) AS source, 'sha256:' || lower(hex(shard)) AS shard, rows, path, run
FROM raw_cleaned;
COMMENT ON VIEW audit.cleaned IS 'Shards that a run wrote: row k is the k-th kept row of its source';
