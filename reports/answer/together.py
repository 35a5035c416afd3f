"""What is known of factors that vary together: ranks over settings, and shares of the variance."""

from collections.abc import Mapping, Sequence

from reports.analysis import Analysis, Effect
from reports.answer.words import Finding, listed, p_words
from reports.stats import Association, Estimate
from reports.tables import CHANCE, Ranged, Table, cell_text, is_beyond_chance, short_names

_LEAST = 1.0  # percent; less is not worth a reader's time, however sure


def ranks_finding(table: Table, head: str, wanted: int) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
        wanted: settings that the sampler was asked for.
    """
    subject = "factors, varied together"
    every = [(row.name, row.ranked) for row in table.rows if row.ranked]
    finished = max((one.n for _, one in every), default=0)
    over = f"{finished} of {wanted} settings finished"
    if finished > 1 and all(one.flat for _, one in every):
        same = f"All {finished} settings that finished have the same mean {head}."
        return Finding(subject, None, same)
    sure = [pair for pair in every if is_beyond_chance(pair[1].p)]
    # whether any order of the settings that finished would have had such a p
    told = [pair for pair in every if is_beyond_chance(pair[1].least)]
    rest = [pair for pair in told if pair not in sure]
    silent = [name for name, one in every if not is_beyond_chance(one.least)]
    texts = [f"{over}."] if finished < wanted and told else []
    if sure:
        texts.append(f"{head} goes with {listed([_told(*pair) for pair in sure])}.")
    if rest:
        others = f"It goes with {listed([name for name, _ in rest])} no"
        which = others if sure else f"{head} goes with no factor"
        least = _least([one for _, one in rest])
        texts.append(f"{which} more than chance would have it ({least}).")
    if silent:
        which = "in no order of the settings" if told else f"{over}, in no order of which"
        texts.append(
            f"Nothing can be said of {listed(silent)}: {which} would Holm's p be below {CHANCE}."
        )
    return Finding(subject, None, " ".join(texts))


def _told(factor: str, one: Association) -> str:
    shown = f"ρ {cell_text(Ranged(one.rho))}, " if one.rho else ""
    return f"{factor} ({shown}{p_words(one.p)})"


def _least(found: Sequence[Association]) -> str:
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
        (effect, effect.share)
        for effect in effects
        if effect.share and effect.share.mean >= _LEAST and is_beyond_chance(effect.holm)
    ]
    if sure:
        sure.sort(key=lambda pair: -pair[1].mean)
        told = listed([_share(short_names(study), *pair) for pair in sure])
        return Finding("importance", None, f"Of the variance of {head} between settings, {told}.")
    if certain or any(effect.holm is None for effect in effects):
        return None  # what was not tested is not said to be nothing
    text = f"No share of the variance of {head} between settings is beyond chance."
    if found.least >= CHANCE:
        why = f"with {found.seeds} common seeds no factor's Holm p can be below {CHANCE}"
        text = f"Nothing can be said of shares: {why}."
    return Finding("importance", None, text)


def _share(names: Mapping[str, str], effect: Effect, share: Estimate) -> str:
    who = " with ".join(names[key] for key in effect.factors)
    ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
    return f"{who} explains {share.mean:.0f}%{ends} ({p_words(effect.holm)})"
