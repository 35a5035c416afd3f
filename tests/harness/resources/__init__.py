"""Tests of harness.resources."""
