"""What is known of factors that vary together: ranks over settings, and shares of the variance."""

from collections.abc import Sequence

from reports.analysis import Analysis, Effect
from reports.answer.words import Finding, listed, p_words
from reports.read import Study
from reports.stats import Estimate
from reports.tables import PValue, Quantity, Ranged, Row, Table, cell_text, p_text, short_names

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
    finished = max((_settings(row) for row in table.rows), default=0)
    over = f"{finished} of {wanted} settings finished"
    if finished > 1 and all(row.flat for row in table.rows):
        same = f"All {finished} settings that finished have the same mean {head}."
        return Finding(subject, None, same)
    sure = [row for row in table.rows if _p(row) < _LEVEL]
    rest = [row for row in table.rows if _can_be_told(row) and row not in sure]
    silent = [row for row in table.rows if not _can_be_told(row)]
    texts = [f"{over}."] if finished < wanted and len(silent) < len(table.rows) else []
    if sure:
        texts.append(f"{head} goes with {listed([_told(row) for row in sure])}.")
    if rest:
        names = listed([_name(row) for row in rest])
        least = f"{_largest(rest)}{_least_p(rest)}"
        texts.append(
            f"It goes with {names} no more than chance would have it ({least})."
            if sure
            else f"{head} goes with no factor more than chance would have it ({least})."
        )
    if silent:
        names = listed([_name(row) for row in silent])
        every = len(silent) == len(table.rows)
        which = f"{over}, in no order of which" if every else "in no order of the settings"
        texts.append(f"Nothing can be said of {names}: {which} would Holm's p be below {_LEVEL}.")
    return Finding(subject, None, " ".join(texts))


def _settings(row: Row) -> int:
    cell = row.cells.get("n")
    return int(cell.number) if isinstance(cell, Quantity) else 0


def _can_be_told(row: Row) -> bool:
    """Whether any order of the settings that finished would have had a p below 0.05."""
    cell = row.cells.get("least")
    return isinstance(cell, PValue) and cell.p < _LEVEL


def _name(row: Row) -> str:
    return cell_text(row.cells["factor"])


def _told(row: Row) -> str:
    rho = row.cells.get("rho")
    shown = f"ρ {cell_text(rho)}, " if rho else ""
    return f"{_name(row)} ({shown}{p_words(_p(row))})"


def _rhos(rows: Sequence[Row]) -> list[Estimate]:
    return [cell.estimate for row in rows if isinstance(cell := row.cells.get("rho"), Ranged)]


def _largest(rows: Sequence[Row]) -> str:
    """The largest correlation of some rows, "" where none has one."""
    sizes = [abs(rho.mean) for rho in _rhos(rows)]
    return f"|ρ| ≤ {max(sizes):.2f}, " if sizes else ""


def _least_p(rows: Sequence[Row]) -> str:
    return p_words(min(map(_p, rows))).replace("Holm p ", "Holm p ≥ ").replace("≥ <", "<")


def _p(row: Row) -> float:
    cell = row.cells.get("p")
    return cell.p if isinstance(cell, PValue) else 1.0


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
