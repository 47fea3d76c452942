-- ancestors(m): every node above a model (name or id) over relations of any kind, itself left out. A set UNION on ids: cycles end it.
CREATE OR REPLACE MACRO audit.ancestors(m) AS TABLE
WITH RECURSIVE up AS (
    SELECT id FROM raw_node WHERE id = m OR (kind = 'model' AND name = m)
    UNION
    SELECT r.parent FROM up JOIN raw_relation AS r ON r.child = up.id
)
SELECT n.id, n.name, n.kind, n.recorded, n.ancestry
FROM up JOIN raw_node AS n ON n.id = up.id
WHERE n.id <> m AND NOT (n.kind = 'model' AND n.name IS NOT DISTINCT FROM m);
COMMENT ON MACRO TABLE audit.ancestors IS 'Every node above a model, over relations of any kind';
