"""Tests of ship.training."""
