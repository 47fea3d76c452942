-- head: size and root of the list of entries, as of which every answer of this session is.
CREATE OR REPLACE VIEW audit.head AS
SELECT size, root FROM raw_head;
COMMENT ON VIEW audit.head IS 'Size and root of the list of entries';
