-- The scores behind those decisions, with the detector's name and the threshold in force.
SELECT e.run, e.shard, e."row", k.name AS detector, e.detector AS digest, k.class, e.label, e.score, e.flag, e.start, e.stop, e.item
FROM audit.evidence AS e
JOIN audit.detector AS k ON k.detector = e.detector
JOIN audit.decision AS d ON d.run = e.run AND d.shard = e.shard AND d."row" = e."row"
WHERE ($prefix IS NOT NULL AND d.document IS NOT NULL AND starts_with(d.document, $prefix)) OR d.source_id = $id
ORDER BY e.run, e.shard, e."row", e.detector, e.label, e.start;
