"""What is known of factors that vary together: ranks over settings, and shares of the variance."""

from collections.abc import Sequence

from reports.analysis import Analysis, Effect
from reports.answer.words import Finding, listed, p_words
from reports.read import Study
from reports.tables import Ranged, Ranked, Table, cell_text, p_text, short_names

_LEVEL = 0.05
_LEAST = 1.0  # percent; less is not worth a reader's time, however sure


def ranks_finding(table: Table, head: str, wanted: int) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
        wanted: settings that the sampler was asked for.
    """
    subject = "factors, varied together"
    every = [row.ranked for row in table.rows if row.ranked]
    finished = max((one.n for one in every), default=0)
    over = f"{finished} of {wanted} settings finished"
    if finished > 1 and all(one.flat for one in every):
        same = f"All {finished} settings that finished have the same mean {head}."
        return Finding(subject, None, same)
    sure = [one for one in every if one.p is not None and one.p < _LEVEL]
    # whether any order of the settings that finished would have had such a p
    told = [one for one in every if one.least is not None and one.least < _LEVEL]
    rest = [one for one in told if one not in sure]
    silent = [one for one in every if one not in told]
    texts = [f"{over}."] if finished < wanted and told else []
    if sure:
        texts.append(f"{head} goes with {listed([_told(one) for one in sure])}.")
    if rest:
        names = listed([one.factor for one in rest])
        texts.append(
            f"It goes with {names} no more than chance would have it ({_least(rest)})."
            if sure
            else f"{head} goes with no factor more than chance would have it ({_least(rest)})."
        )
    if silent:
        names = listed([one.factor for one in silent])
        which = "in no order of the settings" if told else f"{over}, in no order of which"
        texts.append(f"Nothing can be said of {names}: {which} would Holm's p be below {_LEVEL}.")
    return Finding(subject, None, " ".join(texts))


def _told(one: Ranked) -> str:
    shown = f"ρ {cell_text(Ranged(one.rho))}, " if one.rho else ""
    return f"{one.factor} ({shown}{p_words(one.p)})"


def _least(found: Sequence[Ranked]) -> str:
    """The largest correlation of some factors, where there is one, and the least p."""
    sizes = [abs(one.rho.mean) for one in found if one.rho]
    largest = f"|ρ| ≤ {max(sizes):.2f}, " if sizes else ""
    least = p_words(min(1.0 if one.p is None else one.p for one in found))
    return largest + least.replace("Holm p ", "Holm p ≥ ").replace("≥ <", "<")


def shares_finding(analysis: Analysis, head: str, *, certain: bool) -> Finding | None:
    """The finding of a study with several factors; None where their shares are not known.

    Args:
        analysis: of the study.
        head: the metric's heading.
        certain: whether some level differs beyond chance; then it is not said that no share does.
    """
    found, study = analysis.importance, analysis.study
    if found is None:
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
    told = listed(_shares(study, sure))
    return Finding("importance", None, f"Of the variance of {head} between settings, {told}.")


def _shares(study: Study, effects: Sequence[Effect]) -> list[str]:
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
