-- trace(m): the exposures of one model (name or id), worst channel first.
CREATE OR REPLACE MACRO audit.trace(m) AS TABLE
SELECT * FROM audit.exposure WHERE model = m OR model_name = m
ORDER BY
    list_position(['direct', 'inherited_weights', 'subliminal_possible', 'content_possible', 'guidance_possible'], verdict),
    documents DESC, ancestor, dataset;
COMMENT ON MACRO TABLE audit.trace IS 'The exposures of one model, worst channel first';
