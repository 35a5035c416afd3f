"""What can be wrong with a study, beyond the type of each key.

Answers for: levels, settings that nothing reads, variants, what a protocol, a dataset and a
backbone need. Each check returns its faults; none raises at the first.
"""
