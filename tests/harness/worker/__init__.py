"""Tests of harness.worker."""
