"""Tests of ship.features."""
