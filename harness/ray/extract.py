"""Extract features with Ray actors, which encode the images of a split shard by shard.

The actors keep their backbone in memory until the `ClusterEncoder` is closed. If an actor dies, all
actors are killed, and new ones encode the remaining shards. Two mechanisms of Ray are not used:

- Restarts of actors: a call would wait for its actor to restart, forever if other users occupy the
  actor's resources.
- Tasks: their worker processes would keep GPU memory while trials run.
"""

import math
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Final

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util import ActorPool
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from harness.config import Resources
from harness.errors import ClusterError
from harness.method import check_code, get_code_version
from harness.ray.patches import find_last_error, list_alive_nodes
from harness.ray.session import get_cluster_resources
from harness.resources import check_capacity, count_fitting_trials
from ship.architectures import ImagePrecision
from ship.clip import FrozenCLIP
from ship.datasets import DatasetError, ImageDataset, ImageFile, UndecodableError
from ship.features import (
    Features,
    OnEncoded,
    Parallelism,
    Shard,
    diagnose_split,
    encode_images,
    encode_split,
)
from ship.plugins import list_loaded_origins, load_origins
from ship.registry import Origin

MIN_VIEWS: Final = 16_384
"""If trials use no GPU, actors are started only to encode at least this many views.

A view is an image or one of its augmented copies. Starting actors takes about 15 s. The driver
itself encodes this many views (32 shards) with ViT-B/16 in a few minutes.
"""
MAX_TRIES: Final = 5
"""Maximum number of attempts to encode a split if actors die, including the first attempt."""
START_SECONDS: Final = 60.0
"""Time to wait for further actors once one has started: other users may occupy their resources."""
GPU_SHARDS_PER_CALL: Final = 8
"""Shards in one call of an actor with a GPU: enough to keep all of its threads busy."""

LoadBackbone = Callable[[str, str], FrozenCLIP]
"""Function that loads a backbone. Its arguments are the backbone's name and a torch device."""


class EncodeActor:
    """Ray actor that encodes shards on its node."""

    def __init__(
        self,
        resources: Resources,
        load_backbone: LoadBackbone,
        device: str,
        plugins: tuple[Origin, ...],
        code: str,
    ) -> None:
        """Prepare the actor's process. The backbone is loaded by the first call of `encode`.

        Args:
            resources: Resources of the actor.
            load_backbone: Function that loads a backbone.
            device: torch device that encodes.
            plugins: Plugins that the driver has loaded.
            code: Version of the code on the driver (harness.method.get_code_version).

        Raises:
            ValueError: This node has another version of the code.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # as in ShipTrainable.setup
        check_code(code)
        self._load_backbone, self._device, self._plugins = load_backbone, device, plugins
        node_id = ray.get_runtime_context().get_node_id()
        (node,) = (node["Resources"] for node in list_alive_nodes() if node["NodeID"] == node_id)
        threads = count_decoding_threads(resources, node.get("CPU", 0.0), node.get("GPU", 0.0))
        self._layout = Parallelism.for_device(torch.device(device), threads)
        self._clip: FrozenCLIP | None = None
        self._split = ""
        self._images: Sequence[ImageFile] = ()

    def encode(
        self,
        backbone: tuple[str, str, ImagePrecision],
        split: str,
        images: tuple[Any],
        augmentations: int,
        shards: Sequence[Shard],
    ) -> tuple[Sequence[Shard], list[Features] | str]:
        """Encode shards of a split with one backbone.

        Args:
            backbone: Name and fingerprint of the backbone, and precision of its image encoder.
            split: Key of the split. The images are fetched if it differs from the previous call's.
            images: Tuple with a reference to all images of the split. If the reference itself were
                the argument, Ray would fetch the images at every call.
            augmentations: Number of augmented views per image, in addition to the image itself.
            shards: Indices of the images to encode.

        Returns:
            The shards, and their features in the same order. If an image cannot be decoded on this
            node, its name is returned in place of the features.

        Raises:
            ValueError: The backbone's weights on this node differ from the driver's.
        """
        clip = self._prepare_backbone(*backbone)
        if split != self._split:
            self._images, self._split = ray.get(images[0]), split
        try:
            encoded = encode_images(clip, self._images, augmentations, shards, self._layout)
            return shards, [features for _, features in encoded]
        except UndecodableError as error:  # the driver then checks the whole split
            return shards, error.image

    def _prepare_backbone(
        self, name: str, fingerprint: str, precision: ImagePrecision
    ) -> FrozenCLIP:
        """Return the backbone, set to an image precision. Load it if it is not the current one.

        Raises:
            ValueError: The backbone's weights on this node differ from the driver's.
        """
        if self._clip is None or (self._clip.name, self._clip.fingerprint) != (name, fingerprint):
            self._clip = None  # free its memory before another one is loaded
            load_origins(self._plugins)  # a plugin may define the type of the images
            self._clip = self._load_backbone(name, self._device)
            if self._clip.fingerprint != fingerprint:
                raise ValueError(
                    f"the weights of backbone {name} differ between a node and the driver"
                )
        self._clip.image_precision = precision
        return self._clip


class ClusterEncoder(ExitStack):
    """Context manager that encodes shards on Ray actors when it is called (ship.features.Encode).

    The actors start with the first split that needs them and stay until the context ends. Images
    are read on the actors' nodes, so the data root has to exist on every node.

    If trials use GPUs, actors encode small splits, too: the driver may have no GPU, and if it has
    one, trials need its memory.

    Attributes:
        device: torch device that encodes.
    """

    def __init__(
        self,
        resources: Resources,
        load_backbone: LoadBackbone,
        accelerator: str = "cuda",
        session: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Create the encoder without starting any actor.

        Args:
            resources: Resources of an actor, the same as of a trial.
            load_backbone: Function that loads a backbone. Called once per actor and backbone.
            accelerator: torch device of an actor that has a GPU.
            session: Function that returns the context in which actors run, such as a Ray session.
                By default no session is opened: the process must already have an open one.
        """
        super().__init__()
        self._resources, self._load_backbone = resources, load_backbone
        self.device = accelerator if resources.gpus else "cpu"
        self._session = session
        self._shards_per_call = GPU_SHARDS_PER_CALL if resources.gpus else 1
        self._is_open = False
        self._actors: list[Any] = []

    def __call__(
        self,
        clip: FrozenCLIP,
        dataset: ImageDataset,
        split: str,
        augmentations: int,
        shards: Sequence[Shard],
        on_encoded: OnEncoded,
    ) -> Generator[tuple[Shard, Features], None, None]:
        """Yield each shard with its features when an actor has finished it.

        Args:
            clip: Backbone.
            dataset: Dataset of the images.
            split: Name of the split.
            augmentations: Number of augmented views per image.
            shards: Indices of the images to encode.
            on_encoded: Callback for progress, called after each shard.

        Raises:
            DatasetError: An image cannot be decoded on at least one node.
            ClusterError: Actors cannot start, or die repeatedly.
        """
        if not self._resources.gpus and sum(map(len, shards)) * (1 + augmentations) < MIN_VIEWS:
            yield from encode_split(clip, dataset, split, augmentations, shards, on_encoded)
            return
        if not self._is_open:
            self.enter_context(self._session())
            self.callback(setattr, self, "_is_open", False)
            self.callback(self._end_actors)
            self._is_open = True
            check_capacity(self._resources, get_cluster_resources())  # nodes may have been lost
        # keep the reference alive: replacements of dead actors need the images, too
        images = (ray.put(dataset.splits[split].images),)
        backbone = (clip.name, clip.fingerprint, clip.image_precision)
        arguments = (backbone, f"{dataset.fingerprint} {split}", images, augmentations)
        remaining = list(shards)
        retrying = Retrying(
            stop=stop_after_attempt(MAX_TRIES),
            retry=retry_if_exception(_is_actor_loss),
            after=lambda _: self._end_actors(),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    for batch, answer in self._encode_shards(arguments, remaining):
                        if isinstance(answer, str):
                            raise _make_undecodable_error(dataset, split, answer)
                        for shard, features in zip(batch, answer, strict=True):
                            remaining.remove(shard)
                            on_encoded(len(shard) * (1 + augmentations))
                            yield shard, features
        except RayError as error:  # finished shards stay in the cache
            reason = find_last_error(str(error))
            raise ClusterError(
                f"cannot extract the features of {dataset.name}: {reason}"
            ) from error
        finally:
            if remaining:  # stop the actors, because their results are no longer needed
                self._end_actors()

    def _encode_shards(
        self, arguments: tuple[Any, ...], shards: Sequence[Shard]
    ) -> Iterator[tuple[Sequence[Shard], list[Features] | str]]:
        """Return an iterator over the results of EncodeActor.encode, in order of arrival.

        Args:
            arguments: Arguments of each call of EncodeActor.encode, without the shards.
            shards: Shards of one split.

        Raises:
            RayError: No actor can start, or the actors have died. If an actor dies or raises an
                error later, the iterator raises it.
        """
        if not self._actors:
            self._start_actors()
        size = min(self._shards_per_call, math.ceil(len(shards) / len(self._actors)))
        batches = [tuple(shards[i : i + size]) for i in range(0, len(shards), size)]
        pool: Any = ActorPool(self._actors)
        answers: Iterator[Any] = pool.map_unordered(
            lambda actor, batch: actor.encode.remote(*arguments, batch), batches
        )
        return answers

    def _start_actors(self) -> None:
        """Start as many actors as fit on the cluster.

        Once one of them has started, those that do not start within START_SECONDS are killed.
        """
        actor_class: Any = ray.remote(EncodeActor).options(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus, max_restarts=0
        )
        arguments = (
            self._resources,
            self._load_backbone,
            self.device,
            list_loaded_origins(),
            get_code_version(),
        )
        n_actors = max(1, count_fitting_trials(self._resources, get_cluster_resources()))
        actors = {
            actor.__ray_ready__.remote(): actor
            for actor in (actor_class.remote(*arguments) for _ in range(n_actors))
        }
        ray.wait(list(actors))
        ready, late = ray.wait(list(actors), num_returns=n_actors, timeout=START_SECONDS)
        for reference in late:
            ray.kill(actors[reference])
        self._actors = [actors[reference] for reference in ready]

    def _end_actors(self) -> None:
        """Kill all actors."""
        while self._actors:
            ray.kill(self._actors.pop())


def count_decoding_threads(resources: Resources, cores: float, gpus: float) -> int:
    """Return the number of threads with which an actor decodes images.

    An actor with a GPU uses a share of the node's cores that corresponds to its share of the node's
    GPUs, even if trials request fewer cores. A GPU encodes thousands of images per second, and one
    core decodes only about a hundred.

    Args:
        resources: Resources of an actor, the same as of a trial.
        cores: Number of cores of its node.
        gpus: Number of GPUs of its node.
    """
    threads = resources.threads
    if not resources.gpus or not gpus:
        return threads
    return max(threads, int(cores * resources.gpus / gpus))


def _is_actor_loss(error: BaseException) -> bool:
    """Return True if an actor, its node or its result was lost.

    A RayTaskError does not count: it wraps an error of the actor's own code, which would recur.
    """
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def _make_undecodable_error(dataset: ImageDataset, split: str, name: str) -> DatasetError:
    """Return the error about an image that an actor could not decode.

    If the driver cannot decode it either, the error lists all images of the split that it cannot
    decode. Otherwise the error says that the nodes' files differ.
    """
    images = dataset.splits[split].images
    image = next(image for image in images if image.name == name)
    try:
        image.open()
    except UndecodableError as error:
        return diagnose_split(dataset, split, error)
    return DatasetError(
        f"dataset {dataset.name}: {name} can be decoded on the driver, but not on every node. "
        "Provide the same data_root (--data-root) on every node"
    )
