-- exposure: every exposure of every recorded model, as `forebear trace` gives it: one row for each class, channel, ancestor
-- that consumed, and dataset. Filled by the same walk that answers `trace`.
CREATE OR REPLACE VIEW audit.exposure AS
SELECT
    model, model_name, class, verdict, channel, ancestor, ancestor_name, depth, dataset, dataset_name, documents, rows, words,
    epochs, presentations, expected_false, reasons, evidence
FROM raw_exposure;
COMMENT ON VIEW audit.exposure IS 'Every exposure of every recorded model';
