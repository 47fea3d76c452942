-- entry: the append-only list that the head is the Merkle root of.
CREATE OR REPLACE VIEW audit.entry AS
SELECT entry, kind, object, time, facts FROM raw_entry;
COMMENT ON VIEW audit.entry IS 'The append-only list of entries';
