"""Writes of a study that goes on while its store is away: kept on disk, and sent later in order.

Answers for: each write reaches the store as if it had been sent once, whatever is killed meanwhile;
what a driver left that has been replaced is kept and never sent.
"""
