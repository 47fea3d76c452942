-- blind_spots: what is not known of each recorded model's ancestry, and the worst that it could mean.
CREATE OR REPLACE VIEW audit.blind_spots AS
SELECT model, model_name, class, node, why, at_worst, rows, "of" FROM raw_unknown;
COMMENT ON VIEW audit.blind_spots IS 'What is not known of each model, and the worst that it could mean';
