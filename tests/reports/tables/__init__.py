"""Tests of reports.tables."""
