-- impact(shards): models that list one of the shards in what they consumed, and the models below them over any relation.
-- `forebear impact` gives channels and verdicts too.
CREATE OR REPLACE MACRO audit.impact(shards) AS TABLE
WITH RECURSIVE reached AS (
    SELECT model AS id FROM raw_usage WHERE list_contains(shards, shard)
    UNION
    SELECT r.child FROM reached JOIN raw_relation AS r ON r.parent = reached.id
    WHERE r.evidence <> 'contradicted' AND r.relation NOT IN ('tokenizer_from', 'evaluated_on')
)
SELECT n.id, n.name FROM reached JOIN raw_node AS n ON n.id = reached.id WHERE n.kind = 'model';
COMMENT ON MACRO TABLE audit.impact IS 'Models that shards reached, directly or through their ancestors';
