-- Every decision about documents with a digest that begins so, or about rows with this id of their own.
SELECT * FROM audit.decision
WHERE ($prefix IS NOT NULL AND document IS NOT NULL AND starts_with(document, $prefix)) OR source_id = $id
ORDER BY run, shard, "row";
