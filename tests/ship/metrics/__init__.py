"""Tests of ship.metrics."""
