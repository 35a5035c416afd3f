"""Tests of harness.progress."""
