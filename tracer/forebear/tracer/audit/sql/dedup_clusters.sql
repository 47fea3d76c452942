-- dedup_clusters: clusters of duplicates: how many rows, how many were removed, and the least similarity that removed one.
CREATE OR REPLACE VIEW audit.dedup_clusters AS
SELECT
    run,
    cluster,
    count(*) AS rows,
    count(DISTINCT document) AS documents,
    count(DISTINCT shard) AS shards,
    count(*) FILTER (WHERE list_has_any(reasons, ['exact_duplicate', 'near_duplicate'])) AS removed,
    min(jaccard) FILTER (WHERE list_contains(reasons, 'near_duplicate')) AS least_jaccard
FROM audit.decision
WHERE cluster IS NOT NULL
GROUP BY run, cluster;
COMMENT ON VIEW audit.dedup_clusters IS 'Clusters of duplicates';
