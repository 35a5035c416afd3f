"""Tests of harness.wording."""
