-- detector: every detector that a run had, by the digest that covers all that changes its output.
CREATE OR REPLACE VIEW audit.detector AS
SELECT detector, name, class, version, parameters, reason, false_positive_rate
FROM raw_detector;
COMMENT ON VIEW audit.detector IS 'Every detector that a run had';
