"""Tests of harness.ray."""
