"""What a study says, in a sentence for each factor: decided, equivalent or undecided.

Answers for: the words that stand before every table, made from the tables' numbers alone, and what
weakens them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reports import tables
from reports.analysis import Importance, Limit, incomparable, limits
from reports.cells import AVERAGE, Flagged, Ranged, Row, Table, Value
from reports.contract import ARMS, COMPLETE, RIVALS, count
from reports.formatting import cell_text, listed, p_text, points_text
from reports.read import Study, heading
from reports.stats import FEWEST_RANKED, MOST_FURTHER, Compared, Verdict, is_beyond_chance

BEST = "best setting by selection"  # the subject of a finding
# With fewer, a t-interval rests on a deviation that is hardly known (docs/statistics.md).
FEWEST_SEEDS = 5
_SAME = "The same {} under each seed as"
_LEAST = 1.0  # percent of the variance; less is not worth a reader's time, however sure
_OVER = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}
_CEILING = "real_pictures"
_FLOOR = "no_synthetic"
# Flags about what was tested, which the sentence about the rows names.
_TESTED = {"untrained": "Tested untrained", "saturated": "Selection saturated"}
_WHY_NONE = {
    "saturated": "selection is saturated",
    "no headroom": "there is no headroom",
    "at chance": "results are at chance",
}
# In order of precedence: the first of these that any row has is the verdict of them all.
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
    limits: why there are no verdicts, and what to change. They come first.
    """

    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    rule: str = ""
    limits: tuple[Finding, ...] = ()

    @property
    def leading(self) -> tuple[Finding, ...]:
        """The limits, and the findings after them."""
        return (*self.limits, *self.findings)

    @property
    def lines(self) -> list[str]:
        """Limits, findings and cautions, one line each, the rule last."""
        found = [finding.sentence for finding in self.leading]
        return [*found, *self.cautions, *([self.rule] if self.rule else [])]


def build_answer(
    study: Study, metric: str, made: Sequence[Table], importance: Importance | None
) -> Answer:
    """What the tables say of each factor, of the reference arms, and what weakens it.

    Args:
        study: as it was read.
        metric: that its tables are of.
        made: as reports.tables.build_tables gives them.
        importance: of the study's factors, if there is one.
    """
    over = tables.datasets(study)
    averages = [t for t in made if t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")]
    whole = averages if over else made  # and not of one dataset of several
    # the reference arms ran on one dataset, in whose table they are
    place = f" on {tables.arms_dataset(study)}" if over else ""
    known = limits(study, metric)
    arms = [one for table in made if (one := _arms(table, place, known, _head(study, metric)))]
    # over several datasets, what the controls show of one of them limits no average
    of_levels = [limit for limit in known if not (over and limit.is_of_controls)]
    findings = (*_findings(study, metric, whole, importance, of_levels), *arms[:1])
    judged = any(finding.verdict for finding in findings)
    rule = _rule(study, metric) if judged else ""
    shown = tuple(Finding(limit.name, None, limit.text) for limit in known)
    return Answer(findings, tuple(_cautions(study, whole)), rule, shown)


def _findings(
    study: Study,
    metric: str,
    whole: Sequence[Table],
    importance: Importance | None,
    known: Sequence[Limit],
) -> Iterator[Finding]:
    """Yield the findings of tables of the whole study, the most general first.

    Args:
        study, metric, importance: as for build_answer.
        whole: The tables.
        known: What keeps levels from a verdict.
    """
    head, names = _head(study, metric), tables.short_names(study)
    # scores of different rules choose no setting
    if any(table.kind == "settings" for table in whole) and not incomparable(study):
        yield from _best(study, metric)
    for table in whole:
        if table.kind == "ranks":
            yield _ranks(table, head, study)
        elif found := _levels(table, head, known):
            if importance and table.kind == "effects":
                depends = _depends(importance, table, names)
                found = replace(found, text=f"{found.text} {depends}".strip())
            yield found
    if importance:
        yield from _shares(importance, head, names)


def _best(study: Study, metric: str) -> Iterator[Finding]:
    """The setting with the best selection score, with its test result beside the baseline's."""
    found = tables.headline(study, metric)
    if found is None or len(tables.by_preference(study)) < 2:
        return
    decimals = tables.decimals_of(study, metric)
    text = cell_text(Value(found.estimate, decimals=decimals))
    name, beside = next(iter(found.beside.items()), ("", None))
    if beside is not None:
        told = cell_text(Value(beside, signed=True, decimals=decimals))
        than = ARMS[name][0] if name in ARMS else "the baseline"
        same = beside.mean == 0 and beside.low is None
        text += f", as {than}" if same else f", {told} against {than}"
    best = tables.preferred(study)
    flags = _flags_text(best[0].flags()) if len(best) == 1 else ""
    text = f"{found.setting}: mean {_head(study, metric)} {text}. {flags}"
    yield Finding(BEST, None, text.strip())


def _flags_text(flags: Sequence[Flagged]) -> str:
    """Return, for example, "Tested untrained in 5 of 8 seeds."; "" without such flags."""
    raised = {flag.name: flag for flag in flags}
    return " ".join(
        f"{phrase} in {raised[name].raised} of {count(raised[name].of, 'seed')}."
        for name, phrase in _TESTED.items()
        if name in raised
    )


def _tested(rows: Sequence[tuple[str, Row]], known: Sequence[Limit], unit: str = "seed") -> str:
    """Return what was tested, for example "Tested untrained: 4 (5 of 8 seeds), 16 (1 of 8 seeds).".

    Args:
        rows: The rows of a finding with their names.
        known: Limits that the answer names: a saturated selection is not named again.
        unit: What a row counts: seeds, or trials of several configurations.
    """
    texts = []
    for name, phrase in _TESTED.items():
        raised = [(who, one) for who, row in rows for one in row.flags if one.name == name]
        if not raised or name in {limit.name for limit in known}:
            continue
        parts = [f"{who} ({one.raised} of {count(one.of, unit)})" for who, one in raised]
        if len(parts) == len(rows) > 1 and all(one.raised == one.of for _, one in raised):
            parts = [f"all {len(rows)}, under every seed"]
        texts.append(f"{phrase}: {listed(parts)}.")
    return " ".join(texts)


def _barred(known: Sequence[Limit]) -> str:
    """Return why there is no verdict, in a sentence; "" where nothing keeps from one."""
    return f"No verdict: {' and '.join(_WHY_NONE[limit.name] for limit in known)}." if known else ""


def _levels(table: Table, head: str, known: Sequence[Limit]) -> Finding | None:
    """The finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: with differences to its baseline; without any there is no finding.
        head: the metric's heading.
        known: what keeps levels from a verdict.
    """
    told = [(row.level, row.compared) for row in table.own if row.compared]
    if table.kind in ("", "settings") or table.baseline is None or not told:
        return None
    factor = table.name.removeprefix(f"{AVERAGE}-")
    barring = [limit for limit in known if limit.concerns(factor)]
    if barring:
        plain = [(level, replace(one, verdict=None)) for level, one in told]
        told = [(level, one) for level, one in plain if _is_certain(one)]
    judged = [one.verdict for _, one in told]
    verdicts = [verdict for verdict in _PHRASES if verdict in judged]
    named: dict[str, list[str]] = {_PHRASES[verdict]: [] for verdict in verdicts}
    for level, one in told:
        name = level if one.is_unchanged else f"{level} ({_known(one)})"
        named.setdefault(_phrase(one, head), []).append(name)
    than = table.baseline.level
    texts = [f"{phrase} {than}: {listed(names)}." for phrase, names in named.items()]
    unit = "seed" if table.kind == "levels" else "trial"
    texts = [
        _barred(barring),
        *texts,
        _tested([(row.level, row) for row in table.own], known, unit),
    ]
    subject = ", ".join(column.heading for column in table.columns[: table.labels])
    subject += _OVER.get(table.kind, "")
    return Finding(subject, next(iter(verdicts), None), " ".join(filter(None, texts)))


def _is_certain(one: Compared) -> bool:
    """Return True if a difference is beyond chance, or nothing differs."""
    return one.is_unchanged or is_beyond_chance(one.holm_p)


def _phrase(one: Compared, head: str = "") -> str:
    """How a row is to the baseline, before its name."""
    if one.is_unchanged:
        return _SAME.format(head)
    if one.verdict:
        return _PHRASES[one.verdict]
    return "Beyond chance different from" if is_beyond_chance(one.holm_p) else "Not told from"


def _turned(one: Compared) -> Compared:
    """Of the baseline to the row, and not of the row to the baseline."""
    own = one.difference
    low, high = (None if end is None else -end for end in (own.high, own.low))
    return replace(one, difference=replace(own, mean=-own.mean, low=low, high=high))


def _known(one: Compared) -> str:
    """A difference with what is known of it: "+0.5 ± 0.4, Holm p 0.030, about 3 seeds more".

    Holm's p stands there where it is beyond chance.
    """
    over = f"(over {one.datasets[0]} of {one.datasets[1]} datasets)" if one.datasets else ""
    parts = [
        cell_text(Value(one.difference, signed=True, decimals=one.decimals, suffix=over)),
        _p_words(one.holm_p) if is_beyond_chance(one.holm_p) else "",
        f"after {count(one.difference.n, 'seed')}" if one.decision else "",
    ]
    if one.verdict is Verdict.UNDECIDED and one.pairs_more is not None:
        many = "over" if one.pairs_more > MOST_FURTHER else "about"
        parts.append(f"{many} {count(min(one.pairs_more, MOST_FURTHER), 'seed')} more")
    return ", ".join(filter(None, parts))


def _arms(table: Table, place: str, known: Sequence[Limit], head: str) -> Finding | None:
    """The finding of a table with reference arms beside its baseline.

    Args:
        table: with differences of the arms to its baseline; without any there is no finding.
        place: what the subject ends in, such as the dataset that the arms ran on.
        known: what keeps from a verdict.
        head: the metric's heading.
    """
    base = table.baseline
    found = {row.arm: row.compared for row in table.rows if row.arm and row.compared}
    rivals = [arm for arm in RIVALS if arm in found]
    if base is None or base.arm or not rivals:
        return None
    if known:
        found = {arm: replace(one, verdict=None) for arm, one in found.items()}
    told = [_barred(known), _unchanged(found, rivals, head)]
    told += [
        f"{_phrase(found[arm])} {ARMS[arm][0]}: {_known(_turned(found[arm]))}."
        for arm in rivals
        if not found[arm].is_unchanged
    ]
    if ceiling := found.get(_CEILING):
        told.append(_real_images(ceiling, found.get(_FLOOR), head))
    controls = [(row.name, row) for row in table.rows if row.arm and row.arm != "zero_shot"]
    told.append(_tested([("the baseline", base), *controls], known))
    # The first rival's verdict tells whether synthesis helps at all.
    verdict = next((found[arm].verdict for arm in rivals if found[arm].verdict), None)
    return Finding(f"the baseline ({base.name}){place}", verdict, " ".join(filter(None, told)))


def _unchanged(found: Mapping[str, Compared], rivals: Sequence[str], head: str) -> str:
    """Return which of the rivals have exactly the baseline's results; "" where none has."""
    names = [ARMS[arm][0] for arm in rivals if found[arm].is_unchanged]
    if not names:
        return ""
    same = f"{_SAME.format(head)} {' and '.join(names)}."
    if _FLOOR in found and found[_FLOOR].is_unchanged:
        return f"Synthetic features change nothing here: {same[0].lower()}{same[1:]}"
    return same


def _real_images(real: Compared, floor: Compared | None, head: str) -> str:
    """Return how real images compare with the baseline."""
    if not real.is_unchanged:
        return f"Real pictures against it: {_known(real)}."
    if floor is not None and floor.is_unchanged:
        return "Even real images would change nothing."
    return f"{_SAME.format(head)} real images."


def _ranks(table: Table, head: str, study: Study) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
        study: whose settings they are over.
    """
    named: dict[str, list[str]] = {}
    every = [(row.name, row.ranked) for row in table.rows if row.ranked]
    for name, one in every:
        rho = f"ρ {cell_text(Ranged(one.rho))}, " if one.rho else ""
        goes = "goes" if is_beyond_chance(one.p) else "does not go beyond chance"
        phrase = f"{head} {goes} with"
        if one.least is None and one.n >= FEWEST_RANKED:  # the metric or the factor is constant
            phrase = "Nothing can be said, as nothing differs, of"
        elif not is_beyond_chance(one.least):  # even the best order of so few is within chance
            phrase = "Nothing can be said, for want of settings, of"
        named.setdefault(phrase, []).append(f"{name} ({rho}{_p_words(one.p)})" if one.p else name)
    own = tables.without_added(study)
    wanted = len(own.own) + own.untried
    finished = sum(bool(s.known(f"test/{table.metric}")) for s in tables.setting_groups(own))
    texts = [f"{finished} of {wanted} settings finished."]
    texts += [f"{phrase} {listed(names)}." for phrase, names in named.items()]
    texts += filter(None, [_trials_text(own)])
    return Finding("factors, varied together", None, " ".join(texts))


def _trials_text(study: Study) -> str:
    """Return in how many trials of all configurations a model was tested untrained."""
    rows = [row for setting in study.own for row in study.by_setting[setting.key]]
    raised = [flag for flag in tables.Group((), rows).flags() if flag.name == "untrained"]
    return "".join(f"Tested untrained: {one.raised} of {one.of} trials." for one in raised)


def _depends(found: Importance, table: Table, names: Mapping[str, str]) -> str:
    """On which other factors a factor's effect depends, beyond chance; "" on none."""
    key = table.name.removeprefix(f"{AVERAGE}-")
    others = [
        f"{names[other]} ({_p_words(pair.holm)})"
        for pair in found.interactions
        if key in pair.factors and is_beyond_chance(pair.holm)
        for other in pair.factors
        if other != key
    ]
    return f"Its effect depends on {listed(others)}." if others else ""


def _shares(found: Importance, head: str, names: Mapping[str, str]) -> Iterator[Finding]:
    """Which factors explain some of the variance, beyond chance; none where none does."""
    sure = [
        (effect, effect.share)
        for effect in (*found.factors, *found.pairs)
        if effect.share and effect.share.mean >= _LEAST and is_beyond_chance(effect.holm)
    ]
    told = []
    for effect, share in sorted(sure, key=lambda pair: -pair[1].mean):
        who = " with ".join(names[key] for key in effect.factors)
        ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
        told.append(f"{who} explains {share.mean:.0f}%{ends} ({_p_words(effect.holm)})")
    if told:
        text = f"Of the variance of {head} between settings, {listed(told)}."
        yield Finding("importance", None, text)


def _p_words(p: float | None) -> str:
    """A corrected p in words, "" without one."""
    return "" if p is None else f"Holm p {p_text(p)}"


def _head(study: Study, metric: str) -> str:
    """The metric's heading within a sentence."""
    return heading(study.protocol, metric).rstrip(".")


def _rule(study: Study, metric: str) -> str:
    """What the verdicts mean."""
    points = points_text(tables.effect_of(study, metric) or study.smallest_effect)
    within = f"Equivalent: the 95% interval is within ±{points} of {_head(study, metric)}"
    if tables.design_of(study, metric):
        return (
            f"Differs: from 0, by the study's own design (--detect). {within}. ±: 95% over seeds."
        )
    return (
        f"Decided: beyond the smallest effect of interest (Holm p of that < 0.05). {within}. ±: 95%"
        " over seeds, uncorrected."
    )


def _cautions(study: Study, whole: Sequence[Table]) -> Iterator[str]:
    """The cautions of a study, the gravest first.

    Args:
        study: whose answer it is.
        whole: its tables that are of all of it.
    """
    rule = tables.chosen_by(study.rows["selection"].to_list())
    if tables.on_test(rule):
        yield f"Selected on test data ({rule}), which flatters the numbers."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(map(_without_baseline, whole)):
        yield "The baseline has not finished: nothing is compared with it."
    elif any(map(_unmeasured_baseline, whole)):
        yield f"The baseline has no {_head(study, whole[0].metric)}: nothing is compared with it."
    lacking = tables.all_rows(study).counts.absent()
    lacking += [f"{study.untried} settings not tried yet"] if study.untried else []
    if lacking:
        yield f"Not answered in full: of {len(study.rows)} rows, {', '.join(lacking)}."
    seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds == 1:
        yield "Only 1 seed finished: there are no intervals."
    elif seeds < FEWEST_SEEDS:
        yield f"Only {count(seeds, 'seed')} finished: intervals are rough."
    else:
        fewest = min(_pairs(whole), default=FEWEST_SEEDS)
        if fewest < FEWEST_SEEDS:
            yield f"A comparison has only {count(fewest, 'seed')}: intervals of so few are rough."


def _pairs(compared: Sequence[Table]) -> Iterator[int]:
    """How many seeds are behind each comparison that an answer tells of.

    A design's own are left out: its intervals are right with few seeds, too, and say how many.
    """
    for table in compared:
        for row in table.rows:
            one = row.compared
            if one and not one.decision and (row.arm or table.kind != "settings"):
                yield one.difference.n


def _without_baseline(table: Table) -> bool:
    """Whether a table has results, and the baseline to hold them against has none."""
    base = table.baseline
    finished = any(row.counts.done for row in table.own)
    return base is not None and not base.counts.done and finished


def _unmeasured_baseline(table: Table) -> bool:
    """Whether others have the metric that a table compares by, and the baseline under no seed."""
    base, of = table.baseline, [one.key for one in table.columns if one.metric == table.metric]
    if base is None or not table.metric or any(row.compared for row in table.rows):
        return False
    return not any(key in base.cells for key in of) and any(
        key in row.cells for row in table.own for key in of
    )
