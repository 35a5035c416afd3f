"""One driver a study: a lock on this machine, and a lease in the store against other hosts.

Answers for: who holds a study, when a silent driver may be replaced, and that one that was replaced
writes nothing more.
"""
