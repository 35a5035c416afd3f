"""Features through a cluster: actors on all of its nodes encode a split, shard by shard.

Actors stay, with their backbone, until the context ends. Where one dies, the others end with it,
and what they had not finished begins anew on as many as then find room. Ray's own retries are not
used: a task that waits for its actor to start again waits for ever where the other actors hold what
is left of the cluster. Nor are tasks in place of actors: what they leave on a GPU stays there while
trials run.
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
from harness.method import check_code, code_version
from harness.ray.internals import alive_nodes, last_error
from harness.ray.session import cluster_resources
from harness.resources import at_once, check_room
from ship.architectures import ImagePrecision
from ship.clip import FrozenCLIP
from ship.datasets import DatasetError, Picture, PictureDataset, UndecodableError
from ship.features import Done, Features, Layout, Shard, encode_pictures, encode_split, undecodable
from ship.plugins import carried, load_carried
from ship.registry import Origin

LARGE: Final = 16_384
"""Views to encode, from which on actors without a GPU are worth their start of some 15 s.

It is 32 shards: minutes of a driver with ViT-B/16.
"""
MOST_TRIES: Final = 5
"""How often a split is begun, as actors die."""
START_SECONDS: Final = 60.0
"""How long actors are waited for, once one is there: others may hold a part of the cluster."""
MOST_AT_ONCE: Final = 8
"""Shards that an actor with a GPU is given at once: enough that no thread of it has to wait."""

LoadBackbone = Callable[[str, str], FrozenCLIP]
"""Given a backbone's name and a torch device."""


class Encoder:
    """An actor: encodes shards on the node where Ray has placed it."""

    def __init__(
        self,
        resources: Resources,
        load_backbone: LoadBackbone,
        device: str,
        plugins: tuple[Origin, ...],
        code: str,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # as in ShipTrainable.setup
        check_code(code)
        self._load_backbone, self._device, self._plugins = load_backbone, device, plugins
        own = ray.get_runtime_context().get_node_id()
        (node,) = (node["Resources"] for node in alive_nodes() if node["NodeID"] == own)
        threads = decoding_threads(resources, node.get("CPU", 0.0), node.get("GPU", 0.0))
        self._layout = Layout.for_device(torch.device(device), threads)
        self._clip: FrozenCLIP | None = None
        self._split = ""
        self._pictures: Sequence[Picture] = ()

    def encode(
        self,
        backbone: tuple[str, str, ImagePrecision],
        split: str,
        pictures: tuple[Any],
        views: int,
        shards: Sequence[Shard],
    ) -> tuple[Sequence[Shard], list[Features] | str]:
        """Some shards with their features, or with a picture that cannot be decoded here.

        Args:
            backbone: its name and its fingerprint, and the precision of its image tower.
            split: tells the pictures from those of the call before.
            pictures: the one reference to all of the split's, which are read when it is new.
            views: augmented views of each picture, beside the picture itself.
            shards: which of the pictures.
        """
        clip = self._backbone(*backbone)
        if split != self._split:
            self._pictures, self._split = ray.get(pictures[0]), split
        try:
            encoded = encode_pictures(clip, self._pictures, views, shards, self._layout)
            return shards, [features for _, features in encoded]
        except UndecodableError as why:  # the driver then looks at the whole split
            return shards, why.picture

    def _backbone(self, name: str, fingerprint: str, precision: ImagePrecision) -> FrozenCLIP:
        if self._clip is None or (self._clip.name, self._clip.fingerprint) != (name, fingerprint):
            self._clip = None  # never two in memory
            load_carried(self._plugins)  # pictures may be of a kind that only a plugin has
            self._clip = self._load_backbone(name, self._device)
            if self._clip.fingerprint != fingerprint:
                raise ValueError(f"backbone {name} has other weights on a node than on the driver")
        self._clip.image_precision = precision
        return self._clip


class ClusterEncoder(ExitStack):
    """Encodes shards on actors of a Ray session; a ship.features.Encode.

    The actors start with the first split that needs them and stay until the context ends. The
    pictures are read where they are encoded: the data root must be there on every node.

    Where actors have GPUs they encode everything: the driver may have no GPU, and on a GPU of its
    own it would keep memory that trials are to have.
    """

    def __init__(
        self,
        resources: Resources,
        load_backbone: LoadBackbone,
        accelerator: str = "cuda",
        session: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Build it; nothing is started.

        Args:
            resources: what an actor takes, as much as a trial.
            load_backbone: called once on each actor, and for each backbone.
            accelerator: torch device of an actor that has a GPU.
            session: what the actors need open around them, such as a Ray session.
        """
        super().__init__()
        self._resources, self._load_backbone = resources, load_backbone
        self._device = accelerator if resources.gpus else "cpu"
        self._session = session
        self._most_at_once = MOST_AT_ONCE if resources.gpus else 1
        self._is_open = False
        self._actors: list[Any] = []

    def __call__(
        self,
        clip: FrozenCLIP,
        dataset: PictureDataset,
        split: str,
        views: int,
        shards: Sequence[Shard],
        done: Done,
    ) -> Generator[tuple[Shard, Features], None, None]:
        """Yield each shard's features as an actor finishes it.

        Raises:
            DatasetError: pictures that cannot be decoded, or only on the driver.
            ClusterError: actors cannot start, or die again and again.
        """
        if not self._resources.gpus and sum(map(len, shards)) * (1 + views) < LARGE:
            yield from encode_split(clip, dataset, split, views, shards, done)
            return
        if not self._is_open:
            self.enter_context(self._session())
            self.callback(setattr, self, "_is_open", False)
            self.callback(self._end_actors)
            self._is_open = True
            check_room(self._resources, cluster_resources())  # which may be less after a loss
        # the reference stays until the end: an actor that starts later asks for them, too
        pictures = (ray.put(dataset.splits[split].pictures),)
        backbone = (clip.name, clip.fingerprint, clip.image_precision)
        asked = (backbone, f"{dataset.fingerprint} {split}", pictures, views)
        left = list(shards)
        retrying = Retrying(
            stop=stop_after_attempt(MOST_TRIES),
            retry=retry_if_exception(_is_loss),
            after=lambda _: self._end_actors(),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    for part, answer in self._answers(asked, left):
                        if isinstance(answer, str):
                            raise _undecodable(dataset, split, answer)
                        for shard, features in zip(part, answer, strict=True):
                            left.remove(shard)
                            done(len(shard) * (1 + views))
                            yield shard, features
        except RayError as error:  # what the cache has of the split stays
            why = last_error(str(error))
            raise ClusterError(f"features of {dataset.name} cannot be extracted: {why}") from error
        finally:
            if left:  # given up: nobody wants what the actors are at
                self._end_actors()

    def _answers(
        self, asked: tuple[Any, ...], shards: Sequence[Shard]
    ) -> Iterator[tuple[Sequence[Shard], list[Features] | str]]:
        """Some shards with what an actor made of them, as it comes.

        Args:
            asked: what each call of Encoder.encode begins with.
            shards: of one split.

        Raises:
            RayError: actors cannot start, one raised, or one died.
        """
        if not self._actors:
            self._start_actors()
        size = min(self._most_at_once, math.ceil(len(shards) / len(self._actors)))
        parts = [tuple(shards[i : i + size]) for i in range(0, len(shards), size)]
        pool: Any = ActorPool(self._actors)
        answers: Iterator[Any] = pool.map_unordered(
            lambda actor, part: actor.encode.remote(*asked, part), parts
        )
        return answers

    def _start_actors(self) -> None:
        """Start as many as there is room for; those that others leave no room are given up."""
        kind: Any = ray.remote(Encoder).options(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus, max_restarts=0
        )
        given = self._resources, self._load_backbone, self._device, carried(), code_version()
        many = max(1, at_once(self._resources, cluster_resources()))
        begun = {
            actor.__ray_ready__.remote(): actor
            for actor in (kind.remote(*given) for _ in range(many))
        }
        ray.wait(list(begun))
        there, late = ray.wait(list(begun), num_returns=many, timeout=START_SECONDS)
        for reference in late:
            ray.kill(begun[reference])
        self._actors = [begun[reference] for reference in there]

    def _end_actors(self) -> None:
        while self._actors:
            ray.kill(self._actors.pop())


def decoding_threads(resources: Resources, cores: float, gpus: float) -> int:
    """Threads of an actor: with a GPU, its part of the node's cores, which have nothing else to do.

    A core decodes some hundred pictures a second, a GPU encodes thousands.

    Args:
        resources: that an actor takes.
        cores, gpus: of the node.
    """
    own = resources.threads
    return max(own, int(cores * resources.gpus / gpus)) if resources.gpus and gpus else own


def _is_loss(error: BaseException) -> bool:
    """Whether an actor, its node or its answer was lost; what it raised, the next would, too."""
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def _undecodable(dataset: PictureDataset, split: str, name: str) -> DatasetError:
    (picture, *_) = (found for found in dataset.splits[split].pictures if found.name == name)
    try:
        picture.open()
    except UndecodableError:
        return undecodable(dataset, split, name)
    return DatasetError(
        f"dataset {dataset.name}: {name} can be decoded here, but not on every node of the "
        "cluster: data_root (--data-root) must be there under the same path on each"
    )
