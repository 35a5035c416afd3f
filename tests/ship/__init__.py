"""Tests of ship."""
