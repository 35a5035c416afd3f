"""Which factor explains how much of the differences between settings."""

from collections.abc import Sequence

from reports.analysis import Analysis, Effect, Unavailable
from reports.answer.model import Finding
from reports.answer.words import listed
from reports.read import Study
from reports.tables import p_text, short_names

_LEVEL = 0.05
_LEAST = 1.0  # percent; less is not worth a reader's time, however sure


def shares_finding(analysis: Analysis, head: str, *, certain: bool) -> Finding | None:
    """The finding of a study with several factors; None where their shares are not known.

    Args:
        analysis: of the study.
        head: the metric's heading.
        certain: whether some level differs beyond chance; then it is not said that no share does.
    """
    found, study = analysis.importance, analysis.study
    if isinstance(found, Unavailable):
        return None
    effects = [*found.factors, *found.pairs]
    sure = [
        effect
        for effect in effects
        if effect.share
        and effect.share.mean >= _LEAST
        and effect.holm is not None
        and effect.holm < _LEVEL
    ]
    if not sure:
        if certain or any(effect.holm is None for effect in effects):
            return None  # what was not tested is not said to be nothing
        if found.least >= _LEVEL:
            why = f"with {found.seeds} common seeds no factor's Holm p can be below {_LEVEL}"
            return Finding("importance", None, f"Nothing can be said of shares: {why}.")
        text = f"No share of the variance of {head} between settings is beyond chance."
        return Finding("importance", None, text)
    sure.sort(key=lambda effect: -(effect.share.mean if effect.share else 0.0))
    told = listed(_told(study, sure))
    return Finding("importance", None, f"Of the variance of {head} between settings, {told}.")


def _told(study: Study, effects: Sequence[Effect]) -> list[str]:
    names, told = short_names(study), []
    for effect in effects:
        who = " with ".join(names[key] for key in effect.factors)
        if effect.share is not None:
            share = effect.share
            ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
            told.append(
                f"{who} explains {share.mean:.0f}%{ends} (Holm p {p_text(effect.holm or 0)})"
            )
    return told
