"""Tests of how seeds are trained side by side."""
