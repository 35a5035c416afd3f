"""What others write for ship-sweep: a file for --plugin, and a package that is installed."""
