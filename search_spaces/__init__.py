"""Packaged studies: one YAML file is one study; no Python."""
