"""Loader of a run's trained models for mlflow.pyfunc.load_model.

harness.store.models writes the MLmodel file of a logged model, which names this module. MLflow
imports the module and calls `_load_pyfunc`. Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.trained import load_trained

if TYPE_CHECKING:
    import pandas as pd

    from ship.trial import TrainedModel


class ImageClassifier:
    """Ensemble of a run's trained models, with the interface of mlflow.pyfunc.

    Attributes:
        models: One trained model per seed. They share a backbone.
    """

    def __init__(self, models: "Sequence[TrainedModel]") -> None:
        """Create an ensemble of at least one model."""
        self.models = models

    def predict(self, images: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Classify images, as `ship-sweep predict` does.

        Each model returns a probability per class. These are averaged over the models, and the
        class with the largest average is predicted.

        Args:
            images: Paths of the images: a list, a data frame with the paths in its first column, or
                a single path.
            params: Ignored; required by MLflow's interface.

        Returns:
            One row per image, in the order of `images`, with two columns: class (its name) and
            probability (the average for this class, 0 to 1).
        """
        import pandas as pd

        if isinstance(images, pd.DataFrame):
            images = images.iloc[:, 0]
        elif isinstance(images, str | Path):
            images = [images]
        features = self.models[0].encode([str(path) for path in images])
        summed_probabilities: Any = sum(
            model.predict(features).probabilities.double() for model in self.models
        )
        probability, class_ids = (summed_probabilities / len(self.models)).max(-1)
        names = self.models[0].class_names
        return pd.DataFrame(
            {
                "class": [names[class_id] for class_id in class_ids.tolist()],
                "probability": probability.tolist(),
            }
        )


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> ImageClassifier:
    """Load the trained models of the run that an MLmodel file names. Called by MLflow.

    Args:
        path: Local folder with the file MLmodel.
        model_config: Keys `seeds` (one model per seed), `target` and `device` (see
            `harness.load_trained`). Defaults come from the MLmodel file; pass `model_config` to
            mlflow.pyfunc.load_model to override them.

    Raises:
        UserError: `seeds` is empty, or see `harness.load_trained`.
        ship.trial.TrainedError: See `harness.load_trained`.
    """
    import mlflow
    from mlflow.models import Model

    options, tracking_uri = dict(model_config), mlflow.get_tracking_uri()
    seeds = options.pop("seeds")
    if not seeds:
        raise UserError(f"model_config: seeds must have at least one seed, got {seeds}")
    run = f"runs:/{Model.load(path).run_id}"
    models: list[TrainedModel] = []
    for seed in seeds:
        clip = models[0].clip if models else None
        models.append(load_trained(run, seed, clip=clip, tracking_uri=tracking_uri, **options))
    return ImageClassifier(models)
