"""The study harness: YAML -> Ray Tune + Optuna + MLflow."""
