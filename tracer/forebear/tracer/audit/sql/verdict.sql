-- verdict: what is said of every recorded model, class by class, and the worst that it could be.
CREATE OR REPLACE VIEW audit.verdict AS
SELECT model, model_name, class, verdict, at_worst, complete FROM raw_verdict;
COMMENT ON VIEW audit.verdict IS 'The verdict of every recorded model, by class';
