"""Tests of ship.finetuners."""
