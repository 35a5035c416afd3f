"""Check each sentence of an answer against results and effects that are known.

- A sentence of fact (a tie, a count, an unchanged level, a measured difference) is false if it
  contradicts the runs.
- A statistical claim (different, equivalent, significant, an interaction, a share, a correlation)
  is false if it contradicts the true effects. That may happen at the promised rate, but never if
  the results are equal bit for bit.

The checks do not use the code under test. They read the numbers from the runs, and the truth from
the simulation.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from reports.answer import Answer, Finding
from tests.reports.answer.known_study import (
    NUMBER,
    ROUNDING,
    SENTENCES,
    SMALLEST_EFFECT,
    TOLERANCE,
    Assignment,
    Claims,
    KnownStudy,
    parse_number,
    parse_sentences,
)

_LEVEL = re.compile(rf"(?P<level>\d+)(?: \((?P<mean>{NUMBER})(?P<details>[^)]*)\))?")


UNEVEN_NOISE = ": intervals and verdicts assume normal noise of equal variance."


def check_answer(known: KnownStudy, answer: Answer, claims: Claims) -> None:
    """Add the claims of an answer to `claims`."""
    factor_names = {f["key"].split(".")[-1] for f in known.builder.factors}
    for finding in answer.findings:
        if finding.subject == "best configuration by selection":
            _check_best(known, finding.text, claims)
        elif finding.subject == "importance":
            pass  # checked below, because studies without this finding count as a family, too
        elif finding.subject == "rank association with the factors":
            _check_ranks(known, finding.text, claims)
        elif finding.subject.split(",")[0] in factor_names:
            _check_levels(known, finding, claims)
        else:
            _check_controls(known, finding.text, claims)
    texts = [finding.text for finding in answer.findings if finding.subject == "importance"]
    if len(known.builder.factors) > 1:
        _check_shares(known, " ".join(texts), claims)
    _check_cautions(known, answer.cautions, claims)
    for limit in answer.limits:
        _check_limit(known, limit, claims)


def _check_levels(known: KnownStudy, finding: Finding, claims: Claims) -> None:
    """Check the sentences on the levels of a factor."""
    factor = known.find_factor(finding.subject.split(",")[0])
    key, base = factor["key"], factor["baseline"]
    other_levels = [
        level for level in factor["levels"] if level != base and known.find_pairs(key, level, base)
    ]
    identical_levels = [level for level in other_levels if known.are_identical(key, level, base)]
    matches = parse_sentences(finding.text, "factor", claims)
    text = f"{finding.subject}: {finding.text}"

    outcomes = matches["compared"]["who"].split("; ") if "compared" in matches else []
    levels_of = dict(outcome.split(" for ", 1) for outcome in outcomes)

    def match_levels(outcome: str) -> dict[int, re.Match[str]]:
        matched_levels = _LEVEL.finditer(levels_of.get(outcome, ""))
        return {int(match["level"]): match for match in matched_levels}

    different = {**match_levels("higher"), **match_levels("lower")}
    unchanged = match_levels("unchanged")
    inconclusive = match_levels("inconclusive")
    equivalent = match_levels("equivalent")
    significant = match_levels("significantly different")
    if sorted(unchanged) != sorted(identical_levels):
        claims.facts.append(f"unchanged levels are {identical_levels}: {text}")
    without_verdict = {**inconclusive, **equivalent, **significant}
    with_p = [level for level, match in without_verdict.items() if "Holm p" in match["details"]]
    for level, match in {**different, **without_verdict}.items():
        n_pairs = len(known.find_pairs(key, level, base))
        mean = _mean_over_seeds(known, key, level, base)
        if level in identical_levels or abs(mean - parse_number(match["mean"])) > ROUNDING:
            claims.facts.append(f"{level} differs by {mean:.2f} on {n_pairs} pairs: {text}")
    effects = {level: abs(known.compute_true_effect(key, level, base)) for level in other_levels}
    is_false = any(effects[level] <= SMALLEST_EFFECT for level in different)
    claims.count_family("different", false=is_false)
    is_false = any(effects[level] >= SMALLEST_EFFECT for level in equivalent)
    claims.count_family("equivalent", false=is_false)
    claims.count_family("significant", false=any(effects[level] == 0 for level in with_p))
    if "depends" in matches:
        partners = [
            f["key"]
            for f in known.builder.factors
            if f["key"].split(".")[-1] in matches["depends"]["who"]
        ]
        if any(known.changes_nothing(factor_key) for factor_key in (key, *partners)):
            claims.facts.append(f"an interaction of a factor that changes nothing: {text}")
    if len(known.builder.factors) > 1:
        claims.count_family("depends", false="depends" in matches)


def _mean_over_seeds(known: KnownStudy, key: str, level: Any, base: Any) -> float:
    """Return the mean over seeds of a level's mean difference to the baseline under each seed."""
    values, base_values = known.select_level(key, level), known.select_level(key, base)
    differences: dict[int, list[float]] = {}
    for condition, value in values.items():
        if condition in base_values:
            _, seed = condition
            differences.setdefault(seed, []).append(value - base_values[condition])
    means = [
        sum(seed_differences) / len(seed_differences) for seed_differences in differences.values()
    ]
    return sum(means) / len(means)


def _check_best(known: KnownStudy, text: str, claims: Claims) -> None:
    """Check that all configurations with the highest selection score are named, and their H."""
    means = {
        assignment: tuple(sum(values[i] for values in seeds.values()) / len(seeds) for i in (0, 1))
        for (control, assignment), seeds in known.results.items()
        if not control
    }
    highest = max(score for _, score in means.values())
    tied = [
        assignment for assignment, (_, score) in means.items() if abs(score - highest) < TOLERANCE
    ]
    tie, single = (SENTENCES["best"][kind].fullmatch(text) for kind in ("tie", "single"))
    results = [known.results["", assignment] for assignment in tied]
    seeds = set.intersection(*map(set, results))
    mean = sum(values[seed][0] for values in results for seed in seeds) / len(results) / len(seeds)
    if tie:
        is_true = int(tie[1]) == len(tied) > 1 and abs(mean - float(tie[3])) < ROUNDING
        is_true &= set(tie[2].split("; ")) <= {
            _format_assignment(assignment) for assignment in tied
        }
    elif single:
        is_true = len(tied) == 1 and single["name"] == _format_assignment(tied[0])
        is_true &= abs(mean - float(single["mean"])) < ROUNDING
    else:
        is_true = False
    if not is_true:
        claims.facts.append(
            f"best are {[_format_assignment(assignment) for assignment in tied]}: {text}"
        )


def _format_assignment(assignment: Assignment) -> str:
    """Return the text of an assignment as answers have it."""
    return ", ".join(
        f"{key.split('.')[-1]} {value:.3g}"
        if isinstance(value, float)
        else f"{key.split('.')[-1]} {value}"
        for key, value in assignment
    )


def _check_shares(known: KnownStudy, text: str, claims: Claims) -> None:
    """Check which factors and pairs explain variance. Factors and pairs are two families."""
    terms = re.findall(r"(?:[Tt]he interaction of (\w+) and )?(\w+) explains \d+%", text)
    if text and not terms:
        claims.facts.append(f"unread: {text}")
    factors = {name for partner, name in terms if not partner}
    claims.count_family("share", false=any(not _has_effect(known, name) for name in factors))
    claims.count_family("share", false=len(factors) < len(terms))
    for name in itertools.chain.from_iterable(terms):
        if name and known.changes_nothing(known.find_factor(name)["key"]):
            claims.facts.append(f"{name} changes nothing: {text}")


def _has_effect(known: KnownStudy, name: str) -> bool:
    """Return True if the true effects of a factor's levels differ."""
    factor = known.find_factor(name)
    return len({known.truth({factor["key"]: level}) for level in factor["levels"]}) > 1


def _check_ranks(known: KnownStudy, text: str, claims: Claims) -> None:
    """Check the number of configurations, and that too few of them are not tested.

    The smallest possible p without ties is 2 of n! orders, times the number of factors.
    """
    matches = parse_sentences(text, "ranks", claims)
    n_finished = sum(not control for control, _ in known.results)
    min_p = len(known.builder.factors) * 2 / math.factorial(n_finished) if n_finished > 2 else 1.0
    configurations = (str(n_finished), str(known.builder.n_trials))
    if "over" not in matches or matches["over"].group("n", "m") != configurations:
        claims.facts.append(f"{n_finished} configurations finished: {text}")
    if (min_p >= 0.05) != ("silent" in matches) or ("silent" in matches and len(matches) > 2):
        claims.facts.append(f"the least Holm p is {min_p:.3f}: {text}")


def _check_controls(known: KnownStudy, text: str, claims: Claims) -> None:
    """Check the comparison of the baseline with the fine-tuner alone and with real images."""
    match = SENTENCES["controls"]["gap"].fullmatch(text)
    if match is None:
        claims.facts.append(f"unread: {text}")
        return
    base_results = known.results["", _find_baseline(known)]
    for control, shown, sign in (("no_synthetic", match[2], -1), ("real_images", match[3], 1)):
        results = known.results[control, ()]
        gaps = [results[s][0] - base_results[s][0] for s in base_results if s in results]
        mean = sign * sum(gaps) / len(gaps)
        if abs(mean - parse_number(shown)) > ROUNDING:
            claims.facts.append(f"{control} differs by {mean:.2f}: {text}")
    gap = abs(known.controls["no_synthetic"])
    is_different = match[1] in ("higher", "lower")
    claims.count_family("different", false=is_different and gap <= SMALLEST_EFFECT)
    claims.count_family("equivalent", false=match[1] == "equivalent" and gap >= SMALLEST_EFFECT)


def _find_baseline(known: KnownStudy) -> Assignment:
    """Return the assignment of the baseline."""
    return tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))


def _check_limit(known: KnownStudy, limit: Finding, claims: Claims) -> None:
    """Check that real images gain less than the smallest effect over the fine-tuner alone."""
    match = SENTENCES["limits"]["no headroom"].fullmatch(limit.text)
    if match is None or limit.subject != "no headroom":
        claims.facts.append(f"unread: {limit.sentence}")
        return
    floor, real = (known.results[control, ()] for control in ("no_synthetic", "real_images"))
    gains = [real[seed][0] - floor[seed][0] for seed in floor if seed in real]
    mean = sum(gains) / len(gains)
    if abs(mean - parse_number(match["gain"])) > ROUNDING:
        claims.facts.append(f"real images gain {mean:.2f}: {limit.text}")
    gap = known.controls["real_images"] - known.controls["no_synthetic"]
    claims.count_family("no headroom", false=gap >= SMALLEST_EFFECT)


def _check_cautions(known: KnownStudy, lines: Sequence[str], claims: Claims) -> None:
    """Check that the cautions name everything that is missing, with its numbers."""
    finished_seeds = {seed for seeds in known.results.values() for seed in seeds}
    expected = {
        "Demonstration backbone: this says nothing about CLIP.",
        *_describe_missing(known),
    }
    if not finished_seeds:
        expected.add("Nothing has finished.")
    elif (n_seeds := len(finished_seeds)) < 5:
        expected.add(f"Only {n_seeds} seed{'s' * (n_seeds > 1)} finished: intervals are rough.")
    elif (fewest := min(filter(None, _count_common_seeds(known)), default=5)) < 5:
        seeds = f"{fewest} seed{'s' * (fewest > 1)}"
        expected.add(f"A comparison has only {seeds}: its interval is rough.")
    if known.builder.sampler == "grid" and ("", _find_baseline(known)) not in known.results:
        # Tables of several factors compare their levels in other configurations.
        is_compared = len(known.builder.factors) > 1 and any(_count_common_seeds(known))
        table = " in the table configurations" if is_compared else ""
        expected.add(f"The baseline has not finished: nothing is compared with it{table}.")
    warnings = {line for line in lines if line.endswith(UNEVEN_NOISE)}
    claims.count_family("warned", false=bool(warnings))
    other_cautions = set(lines) - warnings
    differing = expected ^ other_cautions
    claims.facts += [f"caution that is false or missing: {caution}" for caution in differing]


def _count_common_seeds(known: KnownStudy) -> Iterator[int]:
    """Yield the number of seeds that each control, and each level, shares with the baseline."""
    base_results = known.results.get(("", _find_baseline(known)), {})
    for (control, _), results in known.results.items():
        if control:
            yield len(base_results.keys() & results.keys())
    if known.builder.sampler != "grid":
        return
    for factor in known.builder.factors:
        base_conditions = known.select_level(factor["key"], factor["baseline"]).keys()
        for level in {*factor["levels"]} - {factor["baseline"]}:
            conditions = known.select_level(factor["key"], level).keys()
            yield len({seed for _, seed in conditions & base_conditions})


def _describe_missing(known: KnownStudy) -> Iterator[str]:
    """Yield the caution on planned results that are not finished, with their number by state."""
    final_states = []
    for entry in known.builder.planned or ():
        runs = [
            run for run in known.builder.runs if run.tags["ship.config_key"] == entry["config_key"]
        ]
        states = {s: r.tags["ship.state"] for r in runs for s in json.loads(r.tags["ship.seeds"])}
        final_states += [states.get(seed, "MISSING") for seed in known.builder.seeds]
    words = {"FAIL": "failed", "PRUNED": "pruned", "MISSING": "missing"}
    counts = [
        f"{final_states.count(state)} {word}"
        for state, word in words.items()
        if state in final_states
    ]
    if counts:
        yield f"Incomplete: {', '.join(counts)} of {len(final_states)} planned results."
