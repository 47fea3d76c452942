-- Changed decisions by what was and what is.
SELECT a.action AS was, a.reasons AS reasons_was, b.action AS now, b.reasons AS reasons_now, count(*) AS rows
FROM audit.decision AS a
JOIN audit.decision AS b ON b.shard = a.shard AND b."row" = a."row"
WHERE a.run = $a AND b.run = $b AND (a.action <> b.action OR a.reasons <> b.reasons)
GROUP BY ALL
ORDER BY rows DESC, was, now, reasons_was, reasons_now;
