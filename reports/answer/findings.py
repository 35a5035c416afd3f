"""What is known of levels, reference arms, ranks and shares, in whole sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reports import tables
from reports.analysis import Analysis
from reports.contract import ARMS, RIVALS
from reports.read import Study
from reports.stats import FEWEST_RANKED, MOST_SEEDS, Verdict
from reports.tables import Compared, Table

_LEAST = 1.0  # percent of the variance; less is not worth a reader's time, however sure
_OVER = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}
_CEILING = "real_pictures"
# Any row that is decided decides what is said of several, any that is open leaves it open.
_PHRASES: Mapping[Verdict, str] = {
    Verdict.DECIDED: "Decided against",
    Verdict.DIFFERS: "Different from",
    Verdict.UNDECIDED: "Undecided against",
    Verdict.EQUIVALENT: "Equivalent to",
}


@dataclass(frozen=True)
class Finding:
    """What is known of one factor, or of the study beside its reference arms.

    verdict: None where nothing was judged against the smallest effect of interest.
    text: whole sentences, without the subject and the verdict.
    """

    subject: str
    verdict: Verdict | None
    text: str

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        judged = f"{self.verdict}. " if self.verdict else ""
        return f"{self.subject}: {judged}{self.text}"


@dataclass(frozen=True)
class Answer:
    """A study's findings, and what weakens all of them.

    rule: what the verdicts mean, in one sentence; "" where there are none.
    """

    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    rule: str = ""

    @property
    def lines(self) -> list[str]:
        """Findings and cautions, one line each, the rule last."""
        found = [finding.sentence for finding in self.findings]
        return [*found, *self.cautions, *([self.rule] if self.rule else [])]


def p_words(p: float | None) -> str:
    """A corrected p in words, "" without one."""
    return "" if p is None else f"Holm p {tables.p_text(p)}"


def points(effect: float) -> str:
    """An effect in words: "1 point", "0.5 points"."""
    return f"{effect:g} point{'' if effect == 1 else 's'}"


def levels_finding(table: Table, head: str) -> Finding | None:
    """The finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: with differences to its baseline; without any there is no finding.
        head: the metric's heading.
    """
    told = [(row.level, row.compared) for row in table.own if row.compared]
    if table.kind in ("", "settings") or table.baseline is None or not told:
        return None
    judged = [None if one.unchanged else one.verdict for _, one in told]
    verdicts = [verdict for verdict in _PHRASES if verdict in judged]
    named: dict[str, list[str]] = {_PHRASES[verdict]: [] for verdict in verdicts}
    for level, one in told:
        name = level if one.unchanged else f"{level} ({_known(one)})"
        named.setdefault(_phrase(one, head), []).append(name)
    than = table.baseline.level
    texts = [f"{phrase} {than}: {tables.listed(names)}." for phrase, names in named.items()]
    subject = ", ".join(column.heading for column in table.columns[: table.labels])
    subject += _OVER.get(table.kind, "")
    return Finding(subject, next(iter(verdicts), None), " ".join(texts))


def _phrase(one: Compared, head: str = "") -> str:
    """How a row is to the baseline, before its name."""
    if one.unchanged:
        return f"The same {head} under each seed as"
    if one.verdict:
        return _PHRASES[one.verdict]
    return "Beyond chance different from" if one.differs else "Not told from"


def _known(one: Compared, *, turned: bool = False) -> str:
    """A difference with what is known of it: "+0.5 ± 0.4, Holm p 0.030, about 3 seeds more".

    Holm's p stands there where it is beyond chance.

    Args:
        one: of a row.
        turned: whether it is of the baseline to the row.
    """
    estimate = one.difference
    if turned:
        low, high = (None if end is None else -end for end in (estimate.high, estimate.low))
        estimate = replace(estimate, mean=-estimate.mean, low=low, high=high)
    over = f"(over {one.datasets[0]} of {one.datasets[1]} datasets)" if one.datasets else ""
    parts = [
        tables.cell_text(tables.Value(estimate, signed=True, decimals=one.decimals, suffix=over)),
        p_words(one.p) if one.differs else "",
        f"after {one.difference.n} seeds" if one.decision else "",
    ]
    if one.verdict is Verdict.UNDECIDED and one.more is not None:
        many = f"over {MOST_SEEDS}" if one.more > MOST_SEEDS else f"about {one.more}"
        parts.append(f"{many} seed{'s' * (one.more > 1)} more")
    return ", ".join(filter(None, parts))


def arms_finding(table: Table, place: str = "") -> Finding | None:
    """The finding of a table with reference arms beside its baseline.

    Args:
        table: with differences of the arms to its baseline; without any there is no finding.
        place: what the subject ends in, such as the dataset that the arms ran on.
    """
    base = table.baseline
    every = [(row.arm, row.compared) for row in table.rows if row.arm and row.compared]
    found = {arm: one for arm, one in every if not one.unchanged}
    rivals = [arm for arm in RIVALS if arm in found]
    if base is None or base.arm or not rivals:
        return None
    told = [
        f"{_phrase(found[arm])} {ARMS[arm][0]}: {_known(found[arm], turned=True)}."
        for arm in rivals
    ]
    if _CEILING in found:
        told.append(f"Real pictures differ from it by {_known(found[_CEILING])}.")
    # The first rival's verdict tells whether synthesis helps at all.
    subject, verdict = f"the baseline ({base.name}){place}", found[rivals[0]].verdict
    return Finding(subject, verdict, " ".join(told))


def ranks_finding(table: Table, head: str, study: Study) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
        study: whose settings they are over.
    """
    named: dict[str, list[str]] = {}
    every = [(row.name, row.ranked) for row in table.rows if row.ranked]
    for name, one in every:
        rho = f"ρ {tables.cell_text(tables.Ranged(one.rho))}, " if one.rho else ""
        goes = "goes" if tables.is_beyond_chance(one.p) else "does not go beyond chance"
        phrase = f"{head} {goes} with"
        if one.least is None and one.n >= FEWEST_RANKED:
            phrase = "Nothing can be said, as nothing differs, of"
        # no order of the settings that finished would have had such a p
        elif not tables.is_beyond_chance(one.least):
            phrase = "Nothing can be said, for want of settings, of"
        named.setdefault(phrase, []).append(f"{name} ({rho}{p_words(one.p)})" if one.p else name)
    own = tables.without_added(study)
    wanted = sum(not setting.arm for setting in own.settings) + own.untried
    texts = [f"{max((one.n for _, one in every), default=0)} of {wanted} settings finished."]
    texts += [f"{phrase} {tables.listed(names)}." for phrase, names in named.items()]
    return Finding("factors, varied together", None, " ".join(texts))


def shares_finding(analysis: Analysis, head: str) -> Finding | None:
    """Which factors explain some of the variance, beyond chance; None where none does."""
    if analysis.importance is None:
        return None
    sure = [
        (effect, effect.share)
        for effect in (*analysis.importance.factors, *analysis.importance.pairs)
        if effect.share and effect.share.mean >= _LEAST and tables.is_beyond_chance(effect.holm)
    ]
    names, told = tables.short_names(analysis.study), []
    for effect, share in sorted(sure, key=lambda pair: -pair[1].mean):
        who = " with ".join(names[key] for key in effect.factors)
        ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
        told.append(f"{who} explains {share.mean:.0f}%{ends} ({p_words(effect.holm)})")
    text = f"Of the variance of {head} between settings, {tables.listed(told)}."
    return Finding("importance", None, text) if told else None
