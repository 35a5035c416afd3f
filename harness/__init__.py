"""The study harness: YAML -> Ray Tune + Optuna + MLflow.

From Python:

    from harness import load_trained, plan_study, run_study
    plan = plan_study("prompt_len", ["seeds=3", "save=true"])
    outcome = run_study("prompt_len", ["seeds=3", "save=true"])
    model = load_trained("runs:/RUN_ID")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.store import load_trained
    from harness.study import plan_study, run_study

__all__ = ["load_trained", "plan_study", "run_study"]


def __getattr__(name: str) -> Any:
    """What Python calls, loaded when it is asked for: commands start light."""
    if name in __all__:
        from harness import store, study

        return getattr(store if name == "load_trained" else study, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
