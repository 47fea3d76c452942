-- run: one row for every scan. `run` is the manifest's digest, `run_digest` what is the same on every machine.
-- `incomplete` counts inputs that could not be read whole.
CREATE OR REPLACE VIEW audit.run AS
SELECT run, run_digest, policy, started, finished, rows_in, rows_kept, rows_dropped, rows_errored, incomplete, version, entry
FROM raw_run;
COMMENT ON VIEW audit.run IS 'One row for every scan, with its reconciled counts';
