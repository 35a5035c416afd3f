"""Reports: MLflow -> one tidy polars frame -> tables and figures (no torch, no ray)."""
