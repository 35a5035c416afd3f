"""What encodes pictures on this machine: actors with its GPUs, or the driver's own threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.config import StudyConfig
from harness.method import Method, knowing_plugins
from harness.resources import extraction_resources, machine_resources

if TYPE_CHECKING:
    from ship.features import Encode


@contextmanager
def encoder_here(
    study: StudyConfig, method: Method, *, verbose: bool, begun: Callable[[], None]
) -> "Iterator[Encode | None]":
    """Give what encodes while the context lasts; None: the driver's own threads.

    Actors have a Ray of their own, which starts with the first split to encode and ends with the
    context: the trials' has a store that is as large as the features, which nobody knows yet.

    Args:
        study: for the resources of a trial, which an actor takes, too.
        method: ship.
        verbose: let Ray talk.
        begun: called whenever Ray has been started.
    """
    actor = extraction_resources(study.resources, machine_resources(study.resources))
    if not actor.gpus:
        yield None
        return
    from harness.cluster import ClusterEncoder, ray_session

    @contextmanager
    def session() -> Iterator[None]:
        with ray_session(study, None, 0, verbose):
            begun()
            yield

    load = knowing_plugins(method.load_backbone)
    with ClusterEncoder(actor, load, method.accelerator, session) as encoder:
        yield encoder
