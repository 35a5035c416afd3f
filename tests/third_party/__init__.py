"""Example plugins for ship-sweep: files for --plugin, and a package to install."""
