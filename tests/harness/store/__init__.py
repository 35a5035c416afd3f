"""Tests of harness.store."""
