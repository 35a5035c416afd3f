"""Tests of saved models."""
