"""Studies whose drivers are killed at random times. See tests.killed_drivers.soak."""
