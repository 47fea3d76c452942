-- run_health: does every run reconcile, how much errored, and what could not be read whole.
CREATE OR REPLACE VIEW audit.run_health AS
SELECT
    run,
    rows_in = rows_kept + rows_dropped + rows_errored AS reconciles,
    rows_errored / nullif(rows_in, 0) AS share_errored,
    rows_dropped / nullif(rows_in, 0) AS share_dropped,
    incomplete AS incomplete_inputs
FROM raw_run;
COMMENT ON VIEW audit.run_health IS 'Whether runs reconcile, and how much errored';
