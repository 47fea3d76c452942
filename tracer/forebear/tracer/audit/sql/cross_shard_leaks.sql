-- cross_shard_leaks: documents whose copy, exact or near, stands in another shard: held-out data that is not held out.
CREATE OR REPLACE VIEW audit.cross_shard_leaks AS
SELECT run, document, shard, "row", keeper_document, keeper_shard, keeper_row, jaccard, reasons
FROM audit.decision
WHERE keeper_shard IS NOT NULL AND keeper_shard <> shard;
COMMENT ON VIEW audit.cross_shard_leaks IS 'Documents whose copy stands in another shard';
