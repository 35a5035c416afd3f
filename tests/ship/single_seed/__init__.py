"""Tests of ship.single_seed."""
