"""TODO: what this package answers for."""
