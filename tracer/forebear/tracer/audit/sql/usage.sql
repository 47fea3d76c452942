-- usage: which rows of which shard fed which model; first_row inclusive, last_row exclusive, null where a whole shard of
-- unknown length was used.
CREATE OR REPLACE VIEW audit.usage AS
SELECT model, dataset, shard, first_row, last_row, stage, epochs, evidence FROM raw_usage;
COMMENT ON VIEW audit.usage IS 'Rows of shards that fed a model';
