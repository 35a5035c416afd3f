"""Tests of ship.generators."""
