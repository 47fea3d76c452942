-- why(d): every decision about a document.
CREATE OR REPLACE MACRO audit.why(d) AS TABLE
SELECT * FROM audit.decision WHERE document = d ORDER BY run, shard, "row";
COMMENT ON MACRO TABLE audit.why IS 'Every decision about a document';
