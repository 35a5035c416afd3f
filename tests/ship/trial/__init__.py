"""Tests of ship.trial."""
