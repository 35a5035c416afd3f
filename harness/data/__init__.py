"""ship-data: list datasets, download them, and check their files.

Contains the command line and the downloads. The datasets are defined in ship.datasets.
"""
