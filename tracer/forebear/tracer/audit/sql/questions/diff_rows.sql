-- The changed rows themselves, in shard and row order.
SELECT
    a.shard, a."row", a.document, a.action AS was, a.reasons AS reasons_was, b.action AS now, b.reasons AS reasons_now,
    a.keeper_document AS keeper_was, b.keeper_document AS keeper_now
FROM audit.decision AS a
JOIN audit.decision AS b ON b.shard = a.shard AND b."row" = a."row"
WHERE a.run = $a AND b.run = $b AND (a.action <> b.action OR a.reasons <> b.reasons)
ORDER BY a.shard, a."row"
LIMIT $limit;
