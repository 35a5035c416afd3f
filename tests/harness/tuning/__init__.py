"""Tests of harness.tuning."""
