"""Before anything long begins: whether the plugins that a study names can be used by its trials."""

from collections.abc import Iterator, Mapping

from harness.config import StudyConfig
from harness.errors import ConfigError
from harness.planning import Plan
from harness.study.features import levels_of
from harness.wording import printable
from ship.plugins import PluginError, carried, identities, load_carried, require_builders
from ship.registry import Origin


def check_plugins(study: StudyConfig, plan: Plan, *, on_cluster: bool) -> None:
    """Import what the study's plugins need, nothing where it names none.

    On a cluster a worker does so: its nodes have packages of their own. On this machine, whose Ray
    is not started before the features are there, the driver does: its workers import from where it
    does.

    Raises:
        ConfigError: a line that names the plugin and says why a trial cannot use it.
    """
    planned = dict(item for pair in _named(study, plan) for item in identities(*pair).items())
    if not planned:
        return
    if on_cluster:
        import ray

        ask = ray.remote(num_cpus=0)(_fault)
        where, fault = "on a worker of the cluster: ", ray.get(ask.remote(carried(), planned))
    else:
        where, fault = "", _fault((), planned)
    if fault:
        raise ConfigError([printable(f"{where}{fault}")])


def _named(study: StudyConfig, plan: Plan) -> Iterator[tuple[str, str]]:
    """(generator, fine-tuner) of each trial that is planned, or may be proposed."""
    for work in plan.work:
        yield work.setting.config.generator.name, work.setting.config.finetuner.name
    if plan.proposals:
        own = (study.trial.generator.name, study.trial.finetuner.name)
        groups = zip(("generator", "finetuner"), own, strict=True)
        generators, finetuners = (
            levels_of(study, group) if group in study.space else [name] for group, name in groups
        )
        yield from ((generator, finetuner) for generator in generators for finetuner in finetuners)


def _fault(files: tuple[Origin, ...], planned: Mapping[str, str]) -> str:
    """Why a trial could not use the plugins in this process; "": it could."""
    try:
        load_carried(files)
        require_builders(planned)
    except PluginError as error:
        return str(error)
    return ""
