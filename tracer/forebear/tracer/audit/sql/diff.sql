-- diff(run_a, run_b): rows of shards that both runs scanned whose decision changed.
CREATE OR REPLACE MACRO audit.diff(run_a, run_b) AS TABLE
SELECT
    a.shard, a."row", a.document, a.action AS was, b.action AS now, a.reasons AS reasons_was, b.reasons AS reasons_now
FROM audit.decision AS a
JOIN audit.decision AS b ON b.shard = a.shard AND b."row" = a."row"
WHERE a.run = run_a AND b.run = run_b AND (a.action <> b.action OR a.reasons <> b.reasons);
COMMENT ON MACRO TABLE audit.diff IS 'Rows whose decision changed between two runs';
