"""What is known of the baseline beside the reference arms."""

from reports.answer.levels import judged, overall
from reports.answer.model import Finding
from reports.answer.words import difference, further, p_words, signed
from reports.contract import ARMS
from reports.read import Study
from reports.tables import Row, Table, spelled_row

# Judged in this order; the others tell how much room there is.
_RIVALS = ("no_synthetic", "text_feature")
_CEILING = "real_pictures"


def arms_finding(
    study: Study, table: Table, head: str, effect: float | None, place: str = ""
) -> Finding | None:
    """The finding of a table with reference arms beside its baseline.

    Args:
        study: whose table it is.
        table: with differences of the arms to its baseline; without any there is no finding.
        head: the metric's heading.
        effect: the smallest of interest, in points; None: nothing is judged.
        place: what the subject ends in, such as the dataset that the arms ran on.
    """
    base = next((row for row in table.rows if row.baseline and not row.arm), None)
    rows = {row.arm: row for row in table.rows if row.arm and not _same(row)}
    rivals = [rows[arm] for arm in _RIVALS if arm in rows]
    if base is None or not rivals:
        return None
    judgements = {row.arm: judgement for row, judgement in judged(table, effect)}
    found = [(row, judgements[row.arm]) for row in rivals]
    parts = []
    for row, judgement in found:
        told = [p_words(row), str(judgement.verdict) if judgement else ""]
        told.append(further(judgement) if judgement else "")
        beside = "; ".join(part for part in told if part)
        parts.append(f"{signed(row, turned=True)} against {ARMS[row.arm][0]} ({beside})")
    texts = [f"{'; '.join(parts)}."]
    if _CEILING in rows:
        texts.append(_room(rows[_CEILING]))
    # The first rival's verdict tells whether synthesis helps at all.
    verdicts = [judgement.verdict for _, judgement in found[:1] if judgement]
    subject = _subject(study, spelled_row(table, base)) + place
    return Finding(subject, overall(verdicts), " ".join(texts))


def _room(ceiling: Row) -> str:
    """How far real pictures are ahead of the baseline, if that can be told."""
    cell = difference(ceiling)
    text = f"Real pictures are {signed(ceiling)} from it"
    if cell is None or cell.estimate.low is None or cell.estimate.high is None:
        return f"{text}: whether there is room on other seeds is not known."
    if cell.estimate.low > 0:
        return f"{text}: the room there is."
    if cell.estimate.high < 0:
        return f"{text}: they are worse, so there is no room above it."
    return f"{text}: whether there is any room cannot be told."


def _same(row: Row) -> bool:
    """Whether an arm is the baseline itself, or has no difference to it."""
    cell = difference(row)
    return cell is None or (cell.estimate.mean == 0 and cell.estimate.low is None)


def _subject(study: Study, baseline: str) -> str:
    varied = {factor.key for factor in study.factors} & {"generator", "generator.name"}
    ship = study.constants.get("generator.name") == "vae" and not varied
    return f"SHIP ({baseline})" if ship and baseline else baseline or "the study's setting"
