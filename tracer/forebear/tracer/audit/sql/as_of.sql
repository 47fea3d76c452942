-- as_of(head): the entries that the ledger had at an older head, given by its number of entries; none where it never had so many.
-- `--head N` asks everything else as of then.
CREATE OR REPLACE MACRO audit.as_of(head) AS TABLE
SELECT entry, kind, object, time, facts
FROM raw_entry
WHERE entry < head AND head <= (SELECT size FROM raw_head)
ORDER BY entry;
COMMENT ON MACRO TABLE audit.as_of IS 'The entries that the ledger had at an older head';
