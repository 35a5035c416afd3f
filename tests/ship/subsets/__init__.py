"""Tests of ship.subsets."""
