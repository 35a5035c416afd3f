"""The study harness: YAML -> Ray Tune + Optuna + MLflow.

From Python:

    from harness import load_trained, run_study
    outcome = run_study("prompt_len", ["seeds=3", "save=true"])
    model = load_trained("runs:/RUN_ID")
"""

from harness.python import load_trained, run_study

__all__ = ["load_trained", "run_study"]
