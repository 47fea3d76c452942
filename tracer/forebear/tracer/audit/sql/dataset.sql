-- dataset: every dataset that a training record names; one that is only pointed at has `recorded` false.
CREATE OR REPLACE VIEW audit.dataset AS
SELECT id, name, revision, digest, ancestry, recorded, aliases FROM raw_node WHERE kind = 'dataset';
COMMENT ON VIEW audit.dataset IS 'Every dataset of the lineage';
