-- threshold: which thresholds a run had in force, by detector and source ('' is every other source); scores in [0, 1].
CREATE OR REPLACE VIEW audit.threshold AS
SELECT run, detector, source, flag / 1024 AS flag, drop_from / 1024 AS "drop", action
FROM raw_threshold;
COMMENT ON VIEW audit.threshold IS 'Thresholds in force, by run, detector and source';
