"""Tests of ship.tasks."""
