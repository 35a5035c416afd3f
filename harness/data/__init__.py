"""ship-data: which datasets lie on disk, whether they are sound, and how to get the others.

Answers for: its own command line and downloads. What a dataset is, is ship.datasets'.
"""
