"""SHIP on frozen CLIP: the method; torch and open_clip only (no ray, optuna or mlflow)."""
