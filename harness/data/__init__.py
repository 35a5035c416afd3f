"""ship-data: list datasets, download them, and check their files.

Responsible for its command line and downloads. ship.datasets defines the datasets.
"""
