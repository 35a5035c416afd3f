"""Tests of reports.render."""
