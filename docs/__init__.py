"""The pages of the documentation, and the two scripts that write what can be derived from code."""
