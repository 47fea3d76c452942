-- clean_with_coverage: models of which it is known, and not only not known otherwise, that nothing reached them.
CREATE OR REPLACE VIEW audit.clean_with_coverage AS
SELECT model, model_name, class, verdict
FROM audit.verdict
WHERE verdict IN ('cleared', 'not_exposed');
COMMENT ON VIEW audit.clean_with_coverage IS 'Models that are clean, and known to be';
