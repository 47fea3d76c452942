-- relation: typed edges, child to parent, the newest word of each; `entry` is the ledger entry that says it.
CREATE OR REPLACE VIEW audit.relation AS
SELECT child, relation, parent, evidence, entry, stage, epochs, usage, run, system_prompt, child_kind, parent_kind
FROM raw_relation;
COMMENT ON VIEW audit.relation IS 'Typed edges of the lineage, child to parent';
