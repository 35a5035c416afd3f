"""Tests of reports.stats."""
