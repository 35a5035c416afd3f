"""Tests of harness.study_files."""
