"""Tests of reports.contract."""
