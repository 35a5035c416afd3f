"""The study harness: YAML -> Ray Tune + Optuna + MLflow.

From Python:

    from harness import run_study
    outcome = run_study("prompt_len", ["seeds=3"])
"""

from harness.python import run_study

__all__ = ["run_study"]
