"""Studies whose drivers are killed at random moments; see tests.killed_drivers.soak."""
