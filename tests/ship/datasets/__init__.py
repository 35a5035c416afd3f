"""Tests of ship.datasets."""
