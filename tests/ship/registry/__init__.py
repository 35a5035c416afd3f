"""Tests of ship.registry and ship.plugins."""
