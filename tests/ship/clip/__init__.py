"""Tests of ship.clip."""
