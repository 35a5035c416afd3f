"""ship-sweep --predict: what the models that a study has kept see in pictures of one's own."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from harness import store
from harness.config import listed, parse_overrides, same
from harness.errors import ConfigError, Fault, UserError
from harness.machine import environment
from harness.store import COMPLETE
from harness.trained import load_trained
from reports import tables
from reports.cells import level_text
from reports.study import Study, load_records
from ship.datasets import SUFFIXES, Picture, UndecodableError

MOST_TOLD = 10  # settings that an error names
# a store that is away says so in seconds, not after MLflow's minutes of retries
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}


@environment(PATIENCE)
def predict(
    study: str,
    pictures: str | Path,
    setting: Sequence[str] = (),
    *,
    tracking_uri: str | None = None,
) -> pl.DataFrame:
    """Name pictures by what a study with `save: true` has trained of one setting.

    Each seed's model gives probabilities of all classes, base and new; their mean decides.

    Args:
        study: its name.
        pictures: a file, or a folder, whose pictures are taken at any depth.
        setting: KEY=VALUE of factors that name one setting; (): the one that selection prefers.
            Levels with classes of their own (a dataset's) must be named, and alone leave the rest
            to selection.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.

    Returns:
        A row a picture, ordered by path: picture (its path, in a folder from there), class,
        probability (0 to 1), second_class, second_probability, seeds (models that were asked),
        seeds_agreeing (those that name this class by themselves), error (why the image could not
        be decoded; its other columns are null then).

    Raises:
        UserError: no such study, setting, folder or picture, nothing was kept, a model was
            trained for each target, or no image can be decoded.
        ReportError: the store or the study cannot be read.
        ship.trial.TrainedError: what was kept cannot be used.
    """
    uri = store.store_uri(tracking_uri)
    setting = listed("setting", setting, str, "n_ctx=4")
    place = Path(pictures)
    files = _pictures(place)
    known = load_records(study, uri)
    if known.constants.get("protocol") == "cross_dataset":
        raise UserError(
            f"study {study}: cross_dataset trains a model for each target, and "
            'harness.load_trained("runs:/RUN_ID", seed, target=NAME).predict(pictures) asks one'
        )
    rows = known.rows.filter(setting_key=_chosen(known, setting), state=COMPLETE)
    runs = dict(zip(rows["seed"].to_list(), rows["run_id"].to_list(), strict=True))
    names = [path.relative_to(place).as_posix() if path != place else path.name for path in files]
    opened = store.open_store(uri)
    lacking = [
        run
        for run in dict.fromkeys(runs.values())  # one run may have several seeds
        if not opened.read(partial(store.keeps_trained, run_id=run))
    ]
    if lacking:  # a finished run stays so, whatever the YAML asks for later
        raise UserError(
            f"study {study}: nothing was kept of run {', '.join(lacking)}, which had finished"
            " without save: true; run it with save=true under another name (name=...)"
        )
    columns = {"picture": names, **_seen(runs, files, uri)}
    return pl.DataFrame(columns, schema_overrides={"error": pl.String})


def _pictures(place: Path) -> list[Path]:
    """The files of pictures, by path; what is hidden or ends otherwise is passed over."""
    if not place.exists():
        raise UserError(f"{place}: there is no such file or folder")
    found = [
        path
        for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    ]
    if not found:
        raise UserError(f"{place}: no pictures here ({', '.join(SUFFIXES)})")
    return found


def _chosen(study: Study, asked: Sequence[str]) -> str:
    """The key of the one setting that is meant.

    Raises:
        UserError: none or several; with the choices.
    """
    wanted, apart = _wanted(study, asked)
    every = tables.by_preference(study) or _unscored(study)
    ranked = [
        (score, group)
        for score, group in every
        if all(same(group.value.assignment.get(key), level) for key, level in wanted.items())
    ]
    best = [group for _, group in ranked]
    if wanted.keys() <= apart:
        tied = tables.tied_first([score for score, _ in ranked])
        best = [group for group, one in zip(best, tied, strict=True) if one]
    if len(best) == 1:
        return str(best[0].value.key)
    labels = tables.factor_labels(study)
    names = [tables.spelled(group, labels) for _, group in ranked or every]
    shown = "; ".join(names[:MOST_TOLD]) + (" ..." if len(names) > MOST_TOLD else "")
    which = f"setting {' '.join(asked)} names" if asked else "selection prefers"
    fault = "several settings" if best else "no finished setting"
    way_out = f"name one by setting (--setting) KEY=VALUE (choices: {shown or 'none'})"
    raise UserError(f"study {study.name}: {which} {fault}; {way_out}")


def _unscored(study: Study) -> list[tuple[float, tables.Group]]:
    """The finished settings of a study under `selection: none`, which prefers none of them."""
    return [(0.0, group) for group in tables.setting_groups(study) if group.done]


def _wanted(study: Study, asked: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """factor key -> level, of KEY=VALUE by whole or short names; and the factors set apart.

    Settings that were selected on other classes have scores that must not compete: such a factor's
    level is named by whoever asks.

    Raises:
        ConfigError: a line for each that cannot be meant, and for each that is missing.
    """
    names = tables.short_names(study)
    keys = {short: key for key, short in names.items()} | {key: key for key in names}
    given, faults = parse_overrides(asked, "setting")
    must, choices = f"must be a factor of {study.name}", tuple(names.values())
    unknown = [one.path for one in given if one.path not in keys]
    faults += [Fault(path, must, choices=choices).line("setting") for path in unknown]
    wanted = {keys[one.path]: one.value for one in given if one.path in keys}
    apart = tables.class_factors(study)
    for one in apart:
        if one.key not in wanted:
            must = f"must name a level of {names[one.key]}, as each has classes of its own"
            levels = tuple(map(level_text, tables.ordered_levels(study, one)))
            faults.append(Fault("setting", must, choices=levels).text)
    if faults:
        raise ConfigError(faults)
    return wanted, {one.key for one in apart}


def _seen(runs: Mapping[int, str], files: Sequence[Path], uri: str) -> dict[str, list[Any]]:
    """The columns of predict() beside the pictures' names."""
    models: list[Any] = []
    for seed, run_id in runs.items():
        clip = models[0].clip if models else None
        place = f"runs:/{run_id}"
        models.append(load_trained(place, seed, clip=clip, tracking_uri=uri))
    errors = dict.fromkeys(files, "")
    try:
        features = models[0].encode(files)
    except UndecodableError:
        errors = {path: _decoding_error(path) for path in files}
        decoded = [path for path, error in errors.items() if not error]
        if not decoded:
            raise UserError("\n".join(errors.values())) from None
        features = models[0].encode(decoded)
    seen = [model.predict(features) for model in models]
    classes = models[0].class_names
    total: Any = sum(one.probabilities.double() for one in seen)
    mean, places = (total / len(seen)).topk(min(2, len(classes)))
    best, second = ([classes[i] for i in places[:, rank].tolist()] for rank in (0, -1))
    votes = zip(*(one.names for one in seen), strict=True)
    agreeing = [own.count(name) for name, own in zip(best, votes, strict=True)]
    columns: dict[str, list[Any]] = {
        "class": best,
        "probability": mean[:, 0].tolist(),
        "second_class": second,
        "second_probability": mean[:, -1].tolist(),
        "seeds": [len(runs)] * len(best),
        "seeds_agreeing": agreeing,
    }
    broken = [row for row, error in enumerate(errors.values()) if error]
    for values in columns.values():
        for row in broken:
            values.insert(row, None)
    return {**columns, "error": [error or None for error in errors.values()]}


def _decoding_error(path: Path) -> str:
    """Return why an image cannot be decoded, or "" if it can."""
    try:
        Picture(path.name, path).open()
    except UndecodableError as error:
        return f"{error}: cannot be decoded"
    return ""
