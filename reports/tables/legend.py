"""What the columns of a table are, in words: metrics, intervals, differences."""

from collections.abc import Sequence

from reports.contract import ARMS, Protocol
from reports.read import Study, heading
from reports.stats import DRAWS
from reports.tables.families import Family
from reports.tables.model import CLASSES, Legend, Row, Value

_RULES = {
    "test": "selected on test: each seed's epoch, and alpha and beta, are those with the best test"
    " result, a leak that flatters every number here",
    "reference": "selected on test, as SHIP's authors do: the best of five ages of the generator by"
    " test result, each with a fine-tuner of its own; a leak that flatters every number here",
    "none": "nothing is selected: settings as given, tested at the last epoch",
}
_UNITS = {
    "levels": "n: finished rows, one a seed",
    "settings": "n: finished rows, one a seed",
    "effects": "n: finished rows; a seed's value is its mean over the settings of the level",
    "methods": "n: seeds that finished on every dataset of the row's average; a dataset's cell"
    " with another n says so",
}


# kind -> of what a difference is, and what its pairs have in common
_PAIRED = {
    "effects": ("to", "on common seeds and settings of the other factors"),
    "methods": ("of the averages, to", "on common seeds and datasets"),
}


def rule_note(rule: str, protocol: Protocol) -> str:
    """What chose the epochs, in the protocol's words."""
    if rule in _RULES:
        return _RULES[rule]
    few = "a few " if rule == "few_val" else ""
    if not protocol.seen:
        return f"epochs selected on {few}validation pictures"
    if rule in ("base_val", "few_val"):
        return f"epochs selected on {few}{protocol.seen}-class validation pictures"
    kind = f"validation pictures of {protocol.seen} classes"
    return f"epochs selected on pseudo-new classes ({kind})"


def metric_notes(study: Study, rows: Sequence[Row], *, kind: str) -> list[str]:
    """What the numbers are, and what their intervals cover.

    Args:
        study: whose table it is.
        rows: of the table.
        kind: of the table, a key of _UNITS.
    """
    notes: list[str] = [Legend(f"accuracies in percent; {_UNITS[kind]}. {study.protocol.note}")]
    notes += map(Legend, _calibration(study, rows))
    if study.pooled:
        notes.append(
            f"every value is an average over {', '.join(study.pooled)}; an H is that of the"
            " averages, not the average H"
        )
    return [*notes, Legend(interval_note(study))]


def interval_note(study: Study) -> str:
    """What the ± covers."""
    split = ", pseudo-new split" if study.protocol.unseen else ""
    joined = f"few-shot draw{split} and initialisation at once"
    return (
        f"±: 95% t-interval over seeds ({joined}), for percentages computed on the logit scale; a"
        " dash: the seeds do not differ. The test set is fixed, its sampling error is not in it"
    )


def _calibration(study: Study, rows: Sequence[Row]) -> list[str]:
    """How calibrated metrics came to be, where there are any."""
    column = "test/calibrated_harmonic_mean"
    if column not in study.rows.columns or study.rows[column].null_count() == len(study.rows):
        return []
    rules = {rule for row in rows for rule in row.selection.split("+") if rule}
    place = "pseudo-new classes" if rules <= {"pseudo_new"} else "the pictures that select epochs"
    return [
        "cal.: calibrated stacking (arXiv:1605.04253), calibration constant chosen on"
        f" {place}; AUSUC: area under the seen-unseen curve"
    ]


def average_notes(study: Study, rows: Sequence[Row], metric: str) -> list[str]:
    """What the columns of averages over datasets are, and which hold fewer.

    Args:
        study: over several datasets.
        rows: of its table over datasets.
        metric: that the table is of.
    """
    halves = study.protocol.halves.get(metric)
    notes: list[str] = []
    if halves is not None:
        head = heading(study.protocol, metric)
        one, other = (heading(study.protocol, half) for half in halves)
        told = (
            f"{head} of means: harmonic mean of the mean {one} and the mean {other} over the"
            f" datasets, by seed; not the mean of {head}"
        )
        notes.append(Legend(told))
    cells = [cell for row in rows for cell in row.cells.values() if isinstance(cell, Value)]
    if any("/" in cell.suffix for cell in cells):
        notes.append(
            "(k/m): over k of the m datasets only, an average that is not comparable with the"
            " others; a Δ is over the datasets that both rows have"
        )
    return notes


def difference_notes(family: Family, rows: Sequence[Row]) -> list[str]:
    """What is compared to what, and how.

    Args:
        family: that the table is of.
        rows: of the table.
    """
    base = next((row for row in rows if row.baseline), None)
    if base is None:
        return ["no baseline setting ran: no paired differences"]
    study, kind = family.study, family.kind
    compared = max(1, sum("p" in row.cells for row in rows))
    what, place = _PAIRED.get(kind, ("to", "on common seeds"))
    head = f"Δ{family.head}: {what} {base.name}, paired {place}"
    corrected, level = "", "5%,"
    if compared > 1:
        corrected = f", Holm over the table's {compared} comparisons"
        level = f"5%/{compared}, Holm's first step,"
    tests = (
        f", its interval uncorrected; p: paired t-test{corrected}. MDE: Δ that is found with 80%"
        f" power at {level} from the observed paired deviation"
    )
    # a study's own design has a note of its own
    designed = any(row.compared and row.compared.decision for row in rows)
    notes: list[str] = [Legend(head if designed else f"{head}{tests}")]
    if any(CLASSES in row.cells for row in rows):
        told = (
            f"Δ{family.head} over classes: 95% interval of the same Δ over"
            f" other test classes: the tested ones drawn again {DRAWS:,} times, whole (percentile"
            " bootstrap), with these seeds. ± is the reverse: other seeds, these classes"
        )
        notes.append(Legend(told))
    if any("p" in row.cells and "detectable" not in row.cells for row in rows):
        notes.append("where paired differences do not vary, p is the exact sign test's, no MDE")
    if study.sampler != "grid" and kind == "settings":
        notes.append("the order rests on the selection objective alone, Holm on all settings")
    found = [row.compared for row in rows if row.compared]
    if found and all(compared.unchanged for compared in found):
        notes.append("every Δ is 0 on every seed: nothing compared here changed a test result")
    return notes


def arm_notes(study: Study, rows: Sequence[Row]) -> list[str]:
    """What the reference arms are, and where the study's other factors stand for them."""
    unseen = study.protocol.unseen or "tested"
    present = [row.arm for row in rows if row.arm]
    said = [f"{ARMS[arm][0]}: {ARMS[arm][1].format(unseen=unseen)}" for arm in present]
    others = [f for f in study.factors if not f.key.startswith("generator")]
    held = ", ".join(f"{f.key} {f.baseline}" for f in others if f.baseline is not None)
    if said and held:
        said.append(f"reference arms at {held}")
    told = "; ".join(said)
    return [told if held else Legend(told)] if said else []
