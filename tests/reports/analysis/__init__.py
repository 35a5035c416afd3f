"""Tests of reports.analysis."""
