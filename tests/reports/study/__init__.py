"""Tests of reports.study."""
