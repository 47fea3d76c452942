-- verification: recorded verifications of the ledger, newest last.
CREATE OR REPLACE VIEW audit.verification AS
SELECT entry, object, time, facts FROM raw_entry WHERE kind = 'verification';
COMMENT ON VIEW audit.verification IS 'Recorded verifications of the ledger';
