-- descendants(m): every node below a model or dataset (name or id), itself left out.
CREATE OR REPLACE MACRO audit.descendants(m) AS TABLE
WITH RECURSIVE down AS (
    SELECT id FROM raw_node WHERE id = m OR name = m
    UNION
    SELECT r.child FROM down JOIN raw_relation AS r ON r.parent = down.id
)
SELECT n.id, n.name, n.kind, n.recorded, n.ancestry
FROM down JOIN raw_node AS n ON n.id = down.id
WHERE n.id <> m AND n.name IS DISTINCT FROM m;
COMMENT ON MACRO TABLE audit.descendants IS 'Every node below a model or dataset';
