"""Third-party code for ship-sweep: a file for --plugin, and an installed package."""
