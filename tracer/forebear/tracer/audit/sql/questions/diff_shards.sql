-- Shards that only one of the two runs scanned.
SELECT coalesce(a.shard, b.shard) AS shard, coalesce(a.path, b.path) AS path, a.shard IS NOT NULL AS in_a, b.shard IS NOT NULL AS in_b
FROM (SELECT * FROM audit.shard WHERE run = $a) AS a
FULL JOIN (SELECT * FROM audit.shard WHERE run = $b) AS b ON a.shard = b.shard
WHERE a.shard IS NULL OR b.shard IS NULL
ORDER BY 1;
