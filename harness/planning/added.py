"""The settings that a study has beside those of its grid or sampler: `--path` asked for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.config import StudyConfig, baseline, belongs
from harness.planning.settings import Setting, SettingMaker, distinct
from harness.store import Ledger
from reports.contract import State


def added_settings(study: StudyConfig, ledger: Ledger, maker: SettingMaker) -> list[Setting]:
    """What is asked for now, then what has results of an earlier time, each once.

    A setting with results stays with the study as long as it is one of the space, and has the same
    key. One without is wanted only while it is asked for.

    Args:
        study: asks for assignments (`added`).
        ledger: what the store has of it.
        maker: gives the study's assignments their keys.
    """
    found = [_setting(study, one, maker) for one in study.added]
    for run in ledger.runs:
        if run.added and run.state is State.COMPLETE:
            setting = _setting(study, run.assignment, maker)
            if setting is not None and setting.key == run.setting_key:
                found.append(setting)
    return distinct([setting for setting in found if setting is not None])


def _setting(
    study: StudyConfig, assignment: Mapping[str, Any], maker: SettingMaker
) -> Setting | None:
    """The setting of an assignment; None where the study's space does not have it.

    A factor that is younger than the assignment stands at its baseline.
    """
    whole = {**baseline(study), **assignment}
    for one in (dict(assignment), {key: whole[key] for key in study.space if key in whole}):
        if belongs(study, one):
            try:
                return replace(maker(one), added=True)
            except ValueError:  # refused by the TrialConfig of today
                return None
    return None


def beside(settings: Sequence[Setting], added: Sequence[Setting], ledger: Ledger) -> list[Setting]:
    """A study's own settings, then those that are added to them.

    An own setting counts as added where the scheduler had stopped it, and all that it has of full
    fidelity is, or is to be, run for the path.

    Args:
        settings: of the grid, or proposed by the sampler.
        added: see added_settings.
        ledger: what the store has of them.
    """
    if not added:
        return list(settings)
    keys, own = {setting.key for setting in added}, [run for run in ledger.runs if not run.added]
    stopped = {run.setting_key for run in own if run.state is State.PRUNED}
    finished = {run.setting_key for run in own if run.state is State.COMPLETE}
    again = keys & stopped - finished
    kept = [replace(one, added=True) if one.key in again else one for one in settings]
    return distinct([*kept, *added])
