-- contaminated_models: models that contaminated documents reached, with the channel, the ancestor that consumed them and the
-- number of documents. A model that is not here is not thereby clean: see audit.verdict and audit.blind_spots.
CREATE OR REPLACE VIEW audit.contaminated_models AS
SELECT
    model, model_name, class, verdict, channel, ancestor, ancestor_name, depth, documents, reasons, evidence, dataset, dataset_name,
    rows, presentations, expected_false
FROM audit.exposure;
COMMENT ON VIEW audit.contaminated_models IS 'Models that contaminated documents reached';
