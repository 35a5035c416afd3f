"""Loader of a run's trained models for mlflow.pyfunc.load_model.

harness.store.models writes the MLmodel file of a logged model, which names this module. MLflow
imports the module and calls `_load_pyfunc`. Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
        """Create the ensemble from its models."""
        self.models = models

    def predict(self, images: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Classify images, as `ship-sweep predict` does.

        Each model returns a probability per class. These are averaged over the models, and the
        class with the largest average is predicted.

        Args:
            images: Paths of the images: a list, or a data frame with the paths in its first column.
            params: Ignored.

        Returns:
            One row per image, in the order of `images`, with two columns: class (its name) and
            probability (the average for this class, 0 to 1).
        """
        import pandas as pd

        if isinstance(images, pd.DataFrame):
            images = images.iloc[:, 0]
        features = self.models[0].encode([str(path) for path in images])
        total: Any = sum(model.predict(features).probabilities.double() for model in self.models)
        probability, labels = (total / len(self.models)).max(-1)
        names = self.models[0].class_names
        return pd.DataFrame(
            {
                "class": [names[label] for label in labels.tolist()],
                "probability": probability.tolist(),
            }
        )


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> ImageClassifier:
    """Load the trained models of the run that an MLmodel file names. Called by MLflow.

    Args:
        path: Local folder with the file MLmodel.
        model_config: `seeds` (one model is loaded per seed), and `target` and `device` of
            `harness.load_trained`. The MLmodel file contains the defaults, which the argument
            `model_config` of mlflow.pyfunc.load_model overrides.
    """
    import mlflow
    from mlflow.models import Model

    options, store = dict(model_config), mlflow.get_tracking_uri()
    run = f"runs:/{Model.load(path).run_id}"
    models: list[TrainedModel] = []
    for seed in options.pop("seeds"):
        clip = models[0].clip if models else None
        models.append(load_trained(run, seed, clip=clip, tracking_uri=store, **options))
    return ImageClassifier(models)
