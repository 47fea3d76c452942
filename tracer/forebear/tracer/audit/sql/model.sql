-- model: every model that a training record names; one that is only pointed at has `recorded` false.
CREATE OR REPLACE VIEW audit.model AS
SELECT id, name, revision, digest, ancestry, recorded, aliases FROM raw_node WHERE kind = 'model';
COMMENT ON VIEW audit.model IS 'Every model of the lineage';
