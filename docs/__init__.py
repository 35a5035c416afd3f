"""Pages of the documentation, and scripts that write their generated parts."""
