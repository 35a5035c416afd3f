"""Tests of reports.read."""
