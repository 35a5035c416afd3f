"""Packaged studies, one per YAML file."""
