"""Loader of a trained model for mlflow.pyfunc.load_model, from an entry of harness.store.models.

MLflow imports this module by its name, and calls `_load_pyfunc`. Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.trained import load_trained

if TYPE_CHECKING:
    import pandas as pd

    from ship.trial import TrainedModel


class ImageClassifier:
    """The trained models of a run's seeds, as MLflow calls them.

    Attributes:
        models: Trained model of each seed. They share a backbone.
    """

    def __init__(self, models: "Sequence[TrainedModel]") -> None:
        """Create the classifier of the models."""
        self.models = models

    def predict(self, images: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Classify images, as `ship-sweep predict` does.

        Args:
            images: Paths: a list, or a data frame whose first column has them.
            params: Ignored.

        Returns:
            Columns class and probability (the class's mean over seeds), in the order of the images.
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
    """Load the models of the run that an entry names, from the current tracking server.

    Args:
        path: Local folder with the file MLmodel.
        model_config: seeds, whose models are averaged, and target and device as for
            `harness.load_trained`. The entry has the defaults.
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
