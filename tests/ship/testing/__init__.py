"""Tests of ship.testing."""
