"""Tests of harness.deploy."""
