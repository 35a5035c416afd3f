"""Load trained models of a study from the MLflow store."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.store import MODEL_SUFFIX, fetch_artifacts, resolve_store_uri
from harness.wording import mask_secrets

if TYPE_CHECKING:
    from ship.clip import FrozenCLIP
    from ship.trial import TrainedModel


def load_trained(
    uri: str | Path,
    seed: int | None = None,
    *,
    target: str | None = None,
    clip: "FrozenCLIP | None" = None,
    device: str = "cpu",
    tracking_uri: str | None = None,
) -> "TrainedModel":
    """Load a trained model of a run in MLflow, with ship.load_trained.

    Args:
        uri: The run (runs:/RUN_ID), its folder `trained`, or a file seed_N.safetensors in that
            folder. The folder and the file may be addresses (runs:/RUN_ID/trained,
            mlflow-artifacts:/..., s3://...) or local paths.
        seed: Seed of the model. Defaults to the seed of the file, or to the run's first seed.
        target: Target dataset whose classes are predicted, under protocol cross_dataset. Defaults
            to the first target.
        clip: Backbone of the model. By default it is loaded by its name, which must be pocket, an
            open_clip NAME:PRETRAINED with a published tag, or an hf-hub:ORG/MODEL that is in the
            local cache.
        device: torch device for the backbone if it is loaded here. Ignored if `clip` is given.
        tracking_uri: Address of the store that contains the run. Defaults to MLFLOW_TRACKING_URI,
            or to mlflow.db in the working directory.

    Returns:
        The trained model: class names, logits, predictions, and features from its generator.

    Raises:
        ship.trial.TrainedError: The files are missing or damaged, or were saved with another
            version or another backbone.
        harness.errors.UserError: The store cannot be reached, or has no such run or file.

    Example:
        >>> model = load_trained("runs:/RUN_ID", seed=0)  # doctest: +SKIP
        >>> predicted = model.predict(["first.jpg", "second.jpg"])  # doctest: +SKIP
    """
    import ship  # imports torch, which takes seconds

    uri = str(uri)
    with fetch_artifacts(uri, seed, resolve_store_uri(tracking_uri)) as path:
        try:
            return ship.load_trained(path, seed, target=target, clip=clip, device=device)
        except ValueError as error:
            # the message contains a temporary folder: replace it by the address
            folder = path.parent if path.suffix == MODEL_SUFFIX else path
            raise type(error)(str(error).replace(str(folder), mask_secrets(uri))) from error
