"""ship-sweep predict: classify images with the trained models of a study."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from harness import store
from harness.config import are_equal, parse_overrides, require_list
from harness.errors import ConfigError, Fault, UserError
from harness.machine import set_environment
from harness.store import COMPLETE
from harness.trained import load_trained
from reports import tables
from reports.cells import format_level
from reports.study import Study, load_records
from ship.datasets import SUFFIXES, ImageFile, UndecodableError

MAX_LISTED = 10  # configurations listed in an error
# Limits MLflow's retries, so that a store that does not respond is reported within seconds.
STORE_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}


@set_environment(STORE_LIMITS)
def predict(
    study: str,
    images: str | Path,
    config: Sequence[str] = (),
    *,
    tracking_uri: str | None = None,
) -> pl.DataFrame:
    """Classify images with the models of one configuration of a study with `save_models: true`.

    The configuration has one model per seed. The prediction is the class whose probability,
    averaged over these models, is largest among all classes, base and new.

    Args:
        study: Name of the study.
        images: An image file, or a folder that is searched for images at any depth.
        config: Levels of factors as KEY=VALUE, which select one configuration. A level is required
            for each factor whose levels have different classes, such as the dataset. If only
            required levels are given, the matching configuration with the best selection score is
            used.
        tracking_uri: Address of the MLflow store. Defaults to MLFLOW_TRACKING_URI, or to
            ./mlflow.db.

    Returns:
        One row per image, ordered by path: image (path, relative to the folder), class,
        probability (0 to 1), second_class, second_probability, seeds (number of models),
        seeds_agreeing (number of models that predict `class`), error (null, or why the image
        could not be decoded; then all other columns except image are null).

    Raises:
        UserError: There is no such study, configuration, folder or image; no models were saved; the
            study's protocol is cross_dataset; or no image can be decoded.
        ReportError: The store or the study cannot be read.
        ship.trial.TrainedError: The saved models cannot be used.

    Example:
        >>> from harness import predict
        >>> predict("prompt_len", "my_images", ["n_ctx=4"])  # doctest: +SKIP
    """
    uri = store.resolve_store_uri(tracking_uri)
    levels = require_list("config", config, str, "n_ctx=4")
    root = Path(images)
    files = _find_images(root)
    records = load_records(study, uri)
    if records.constants.get("protocol") == "cross_dataset":
        raise UserError(
            f"study {study}: predict does not support cross_dataset (a model per target). "
            'Use harness.load_trained("runs:/RUN_ID", seed, target=NAME).predict(images)'
        )
    rows = records.rows.filter(config_key=_choose_configuration(records, levels), state=COMPLETE)
    runs = dict(zip(rows["seed"].to_list(), rows["run_id"].to_list(), strict=True))
    names = [path.relative_to(root).as_posix() if path != root else path.name for path in files]
    reader = store.open_store(uri)
    runs_without_models = [
        run_id
        for run_id in dict.fromkeys(runs.values())  # a run may have several seeds
        if not reader.read(partial(store.has_trained_models, run_id=run_id))
    ]
    if runs_without_models:
        # the study needs another name, because save_models does not cause finished runs to rerun
        raise UserError(
            f"study {study}: no saved models of run {', '.join(runs_without_models)}. A run has "
            "none if it ran without save_models: true, or if its files have been moved. To save "
            "models, rerun the study with save_models=true under another name (name=...)"
        )
    columns = {"image": names, **_predict_columns(runs, files, uri)}
    return pl.DataFrame(columns, schema_overrides={"error": pl.String})


def _find_images(root: Path) -> list[Path]:
    """Return the path itself if it is an image file, or a folder's image files, sorted by path.

    Hidden files, files in hidden folders and files of other types are skipped.

    Raises:
        UserError: There is no such file or folder, or all of its files are skipped.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder")
    files = [
        path
        for path in ([root] if root.is_file() else sorted(root.rglob("*")))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not files:
        raise UserError(f"{root}: contains no images ({', '.join(SUFFIXES)})")
    return files


def _choose_configuration(study: Study, assignments: Sequence[str]) -> str:
    """Return the key of the configuration with the given levels and the best selection score.

    The score is only used if all of these levels are required ones (see `_parse_levels`).

    Raises:
        UserError: No configuration matches, or several do. The message lists the choices.
    """
    levels, class_factors = _parse_levels(study, assignments)
    finished = tables.rank_configurations(study) or _list_unscored(study)
    ranked = [
        (score, group)
        for score, group in finished
        if all(are_equal(group.value.assignment.get(key), level) for key, level in levels.items())
    ]
    best = [group for _, group in ranked]
    if levels.keys() <= class_factors:
        ties = tables.find_ties([score for score, _ in ranked])
        best = [group for group, is_tied in zip(best, ties, strict=True) if is_tied]
    if len(best) == 1:
        return str(best[0].value.key)
    labels = tables.make_label_columns(study)
    names = [tables.format_group_name(group, labels) for _, group in ranked or finished]
    choices = "; ".join(names[:MAX_LISTED]) + (" ..." if len(names) > MAX_LISTED else "")
    if best:
        criterion = "match the levels" if assignments else "have the best selection score"
        fault = f"several configurations {criterion}"
    else:
        criterion = " that matches the levels" if assignments else ""
        fault = f"no finished configuration{criterion}"
    levels_text = f", got {' '.join(assignments)}" if assignments else ""
    advice = f"Select one with config (--config) KEY=VALUE (choices: {choices or 'none'})"
    raise UserError(f"study {study.name}: {fault}{levels_text}. {advice}")


def _list_unscored(study: Study) -> list[tuple[float, tables.Group]]:
    """Return the finished configurations of a study with `selection: none`, each with score 0."""
    return [
        (0.0, group) for group in tables.make_configuration_groups(study) if group.finished_rows
    ]


def _parse_levels(study: Study, assignments: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Parse KEY=VALUE texts, whose keys may be full or short names of factors.

    A level is required for each factor whose levels have different classes, because selection
    scores on different classes are not comparable.

    Returns:
        Key of a factor -> level; and the keys of the factors that require a level.

    Raises:
        ConfigError: A text is invalid, or a required level is missing. The message has one line per
            fault.
    """
    names = tables.shorten_factor_names(study)
    keys = {short: key for key, short in names.items()} | {key: key for key in names}
    overrides, faults = parse_overrides(assignments, "config")
    rule, choices = f"must be a factor of {study.name}", tuple(names.values())
    unknown = [override.path for override in overrides if override.path not in keys]
    faults += [Fault(path, rule, choices=choices).format_line("config") for path in unknown]
    levels = {
        keys[override.path]: override.value for override in overrides if override.path in keys
    }
    class_factors = tables.find_factors_that_change_test_classes(study)
    for factor in class_factors:
        if factor.key not in levels:
            short = names[factor.key]
            rule = f"must select a level of {short}, because its levels have different classes"
            choices = tuple(map(format_level, tables.sort_levels(study, factor)))
            faults.append(Fault("config", rule, choices=choices).text)
    if faults:
        raise ConfigError(faults)
    return levels, {factor.key for factor in class_factors}


def _predict_columns(
    runs: Mapping[int, str], files: Sequence[Path], uri: str
) -> dict[str, list[Any]]:
    """Return all columns of the result of `predict` except `image`.

    Args:
        runs: Seed -> ID of the run with its model.
        files: Image files.
        uri: Address of the store.

    Raises:
        UserError: No image can be decoded.
    """
    models: list[Any] = []
    for seed, run_id in runs.items():
        clip = models[0].clip if models else None  # the models share one backbone
        models.append(load_trained(f"runs:/{run_id}", seed, clip=clip, tracking_uri=uri))
    errors = dict.fromkeys(files, "")
    try:
        features = models[0].encode(files)
    except UndecodableError:
        errors = {path: _find_decoding_error(path) for path in files}
        decoded = [path for path, error in errors.items() if not error]
        if not decoded:
            raise UserError("\n".join(errors.values())) from None
        features = models[0].encode(decoded)
    predictions = [model.predict(features) for model in models]
    classes = models[0].class_names
    total: Any = sum(prediction.probabilities.double() for prediction in predictions)
    mean, labels = (total / len(predictions)).topk(min(2, len(classes)))
    best, second = ([classes[i] for i in labels[:, rank].tolist()] for rank in (0, -1))
    votes = zip(*(prediction.names for prediction in predictions), strict=True)
    agreeing = [image_votes.count(name) for name, image_votes in zip(best, votes, strict=True)]
    columns: dict[str, list[Any]] = {
        "class": best,
        "probability": mean[:, 0].tolist(),
        "second_class": second,
        "second_probability": mean[:, -1].tolist(),
        "seeds": [len(runs)] * len(best),
        "seeds_agreeing": agreeing,
    }
    undecoded_rows = [row for row, error in enumerate(errors.values()) if error]
    for values in columns.values():
        for row in undecoded_rows:
            values.insert(row, None)
    return {**columns, "error": [error or None for error in errors.values()]}


def _find_decoding_error(path: Path) -> str:
    """Return why an image cannot be decoded, or "" if it can."""
    try:
        ImageFile(path.name, path).open()
    except UndecodableError as error:
        return f"{error}: cannot be decoded"
    return ""
