"""List a run's trained models in MLflow's UI, under "Models", as a logged model.

The logged model has only the file MLmodel, which names the run and the loader (harness.pyfunc). The
weights stay in the run's folder `trained`; they are not copied, and nothing is pickled.
"""

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.machine import scratch_folder
from harness.store.run_update import MAX_PARAM, Point, escape_text

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODEL_TYPE: Final = "ship-sweep"
LOADER: Final = "harness.pyfunc"
# Replaces the characters that MLflow forbids in a model's name.
_REPLACE_FORBIDDEN: Final = str.maketrans({character: "_" for character in "/:.%\"'"})
_READY: Final = "READY"


def list_model(
    client: "MlflowClient",
    run_id: str,
    name: str,
    seeds: Sequence[int],
    levels: Mapping[str, str],
    metrics: Sequence[Point],
) -> None:
    """List the trained models of a finished run as one logged model.

    The status of the logged model is set to READY last. If the run already has a logged model, the
    call completes it, or changes nothing if its status is READY.

    Args:
        client: Client of the store.
        run_id: ID of the run.
        name: Name of the logged model.
        seeds: Seeds with a saved model.
        levels: Levels of the factors as text by name, shown as the model's parameters.
        metrics: Points of the run's metrics, shown as the model's metrics.

    Raises:
        Exception: Any error of MLflow's client.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    run = client.get_run(run_id)
    experiment_id = run.info.experiment_id
    query = f"source_run_id = '{run_id}'"
    models = client.search_logged_models([experiment_id], filter_string=query, max_results=1)
    if models:
        model = models[0]
    else:
        model = client.create_logged_model(
            experiment_id,
            name=escape_text(name).translate(_REPLACE_FORBIDDEN),
            source_run_id=run_id,
            params={key: escape_text(text)[:MAX_PARAM] for key, text in levels.items()},
            model_type=MODEL_TYPE,
        )
    if model.status == _READY:
        return
    _log_description(client, model, run_id, seeds)
    if run.outputs is None or not run.outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_batch(run_id, [Metric(*point, model_id=model.model_id) for point in metrics])
    client.finalize_logged_model(model.model_id, _READY)


def _log_description(client: "MlflowClient", model: Any, run_id: str, seeds: Sequence[int]) -> None:
    """Write the file MLmodel, which names the loader and its options, to a logged model."""
    from mlflow.models import Model

    description = Model(run_id=run_id, model_id=model.model_id, artifact_path=model.name)
    description.add_flavor(
        "python_function",
        loader_module=LOADER,
        python_version=platform.python_version(),
        config={"seeds": list(seeds), "target": None, "device": "cpu"},
    )
    with scratch_folder() as folder:
        description.save(str(folder / "MLmodel"))
        client.log_model_artifact(model.model_id, str(folder / "MLmodel"))
