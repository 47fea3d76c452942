"""Questions in, answers out: which ancestors of a model saw what, by which channel, and how sure that is.

A notebook opens a ledger once and asks; every answer of a session is as of one head, over bytes that were hashed as they were read.
(These examples are run by the tests, on a ledger of two shards in which `acme/chat-7b` is tuned from `acme/base-7b`.)

>>> from forebear.tracer.audit.session import Session
>>> session = Session.open("ledger")
>>> trace = session.trace("acme/chat-7b")
>>> trace.verdict.value, trace.at_worst.value, trace.complete
('inherited_weights', 'inherited_weights', False)

An exposure is a dose on a path: who consumed it, how far up, how many documents, and how well that is evidenced.

>>> for one in trace.exposures:
...     print(one.channel.value, one.ancestor.name, one.depth, one.dataset.name, one.documents, one.evidence.value)
weights acme/base-7b 1 acme/raw 1 logged
>>> [(step.relation, step.parent) for step in trace.exposures[0].path]
[('finetuned_from', 'name:acme/base-7b')]

What is not known is said with its reason and the worst that it could mean, never taken for clean.

>>> [(one.node, one.why, one.rows, one.of) for one in trace.unknown]
[('name:acme/raw', 'rows errored', 1, 4)]

Other thresholds need no other scan: the log keeps every score.

>>> session.trace("acme/chat-7b", question=session.question(threshold="0.99")).verdict.value
'unknown'
>>> stricter = session.trace("acme/chat-7b", question=session.question(threshold="0.5"))
>>> sorted((one.dataset.name, one.documents) for one in stricter.exposures)
[('acme/books', 1), ('acme/raw', 1)]

The same, over all models, as a polars frame; every table and macro is a file under `sql/`, and COOKBOOK.md has ten questions.

>>> frame = session.frame("SELECT model_name, verdict FROM audit.verdict ORDER BY model_name")
>>> frame.filter(frame["verdict"] == "cleared")["model_name"].to_list()
['acme/clean-7b']
>>> session.frame("SELECT action, count(*) AS n FROM audit.decision GROUP BY action ORDER BY action").to_dicts()
[{'action': 'drop', 'n': 3}, {'action': 'error', 'n': 1}, {'action': 'keep', 'n': 3}]

From the other end: which models a shard, a document or a model reached.

>>> shard = session.frame("SELECT shard FROM audit.shard WHERE path = 'a.jsonl'").item()
>>> sorted({(one.model.name, len(one.path)) for one in session.impact([shard]).models})
[('acme/base-7b', 0), ('acme/chat-7b', 1), ('acme/clean-7b', 0), ('acme/open-7b', 2)]

A wrong question is an error that says what to do.

>>> session.trace("acme/chat-8b")  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
forebear.schemas.errors.UsageError: expected a model of the ledger: digest, prefix of 12 hex digits or more, name or alias; \
found 'acme/chat-8b'. Did you mean acme/chat-7b, ...?
"""
