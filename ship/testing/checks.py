"""Check generators, fine-tuners, datasets and metrics: one function per requirement."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ship.configs import FINETUNERS, GENERATORS, METRICS
from ship.datasets import (
    SPLITS,
    DatasetScan,
    ImageFile,
    find_spec,
    load_dataset,
    scan_dataset,
)
from ship.metrics import is_finite_number
from ship.state import capture, restore
from ship.tasks import make_placeholder_images
from ship.testing.bench import (
    Bench,
    CheckResult,
    MethodCase,
    make_packaged_bench,
    require,
    require_equal,
    require_shape,
    run_checks,
)

EPOCHS: Final = 3
"""Maximum number of epochs if a check uses a method's default settings."""
DECODED_PER_SPLIT: Final = 20
"""Maximum number of images per split that the check of a dataset decodes."""
ROUNDING: Final = 1e-5
"""Tolerance for rounding errors, as a fraction of the largest logit.

The order in which BLAS sums depends on the number of images. In single precision, which a method
may use, this changes a sum of hundreds of features by about 1e-7 of its value. In a method that
uses the other images, logits change by more than ten times the tolerance.
"""


def check_generator(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[CheckResult]:
    """Check that a generator meets all requirements.

    Args:
        name: Name of the generator in a YAML.
        settings: Settings of the generator. Defaults to its defaults with at most EPOCHS epochs.
        bench: Bench to check it on. Defaults to `make_packaged_bench()`.

    Returns:
        An iterator over the results. Each check runs when its result is requested.

    Raises:
        KeyError: There is no generator of that name.

    Example:
        >>> print(next(check_generator("gaussian_text")))
        passed  it can be built, trained and evaluated
    """
    case = MethodCase(
        _make_quick_settings(GENERATORS[name], settings), bench or make_packaged_bench()
    )
    return run_checks(GENERATOR_CHECKS, {"": case})


def check_finetuner(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[CheckResult]:
    """Check that a fine-tuner meets all requirements, both without and with synthetic features.

    Args:
        name: Name of the fine-tuner in a YAML.
        settings: Settings of the fine-tuner. Defaults to its defaults with at most EPOCHS epochs.
        bench: Bench to check it on. Defaults to `make_packaged_bench()`.

    Returns:
        An iterator over the results. Each check runs when its result is requested.

    Raises:
        KeyError: There is no fine-tuner of that name.

    Example:
        >>> print(next(check_finetuner("zero_shot")))
        passed  without synthetic features, it can be built, trained and evaluated
    """
    config, bench = _make_quick_settings(FINETUNERS[name], settings), bench or make_packaged_bench()
    cases = {
        "without synthetic features, ": MethodCase(config, bench),
        "with synthetic features, ": MethodCase(config, bench, synthetic=True),
    }
    return run_checks(FINETUNER_CHECKS, cases)


def _make_quick_settings(config: type[Any], settings: Mapping[str, Any] | None) -> Any:
    """Build settings from the given values, or the defaults with at most EPOCHS epochs if None."""
    if settings is None:
        epochs = getattr(config(), "epochs", 0)
        settings = {"epochs": EPOCHS} if epochs > EPOCHS else {}
    return config(**settings)


def _check_runs(case: MethodCase) -> None:
    require(bool(case.run.outputs), "inference_grid is empty. Use ({},) if there are no options")


def _check_finite(case: MethodCase) -> None:
    task = case.task
    for output in case.run.outputs:
        shape = [task.n_seeds, 2 * task.synthetic_ids.shape[1], case.bench.clip.feature_dim]
        if case.output_name == "logits":
            shape = [task.n_seeds, len(case.bench.images), len(task.class_names)]
        require_shape(case.output_name, output, shape)
        require(bool(output.isfinite().all()), f"some {case.output_name} are not finite")


def _check_metrics(case: MethodCase) -> None:
    for name, value in (item for metrics in case.run.epochs for item in metrics.items()):
        shape = [len(case.bench.seeds)]
        require_shape(f"metric {name}", value, shape)
        require(bool(value.isfinite().all()), f"metric {name} is not finite")


def _check_determinism(case: MethodCase) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        second_run = case.train(case.task, case.bench.seeds)
        case.require_same(second_run.method, "of a second run")


def _check_solo_runs(case: MethodCase) -> None:
    for seed_index, seed in enumerate(case.bench.seeds):
        solo_run = case.train(case.bench.task([seed]), [seed])
        # not strict: a seed that stops early has fewer epochs in its solo run
        for metrics, solo_metrics in zip(case.run.epochs, solo_run.epochs, strict=False):
            for name, solo_value in solo_metrics.items():
                values = f"values of {name} of seed {seed}"
                require_equal(metrics[name][seed_index], solo_value[0], values)
        outputs = f"{case.output_name} of seed {seed} with and without other seeds"
        for output, solo_output in zip(case.run.outputs, solo_run.outputs, strict=True):
            require_equal(output[seed_index], solo_output[0], outputs)


def _check_resumes(case: MethodCase) -> None:
    interrupted, resumed = (case.build(case.task, case.bench.seeds) for _ in range(2))
    if interrupted.epochs:
        interrupted.train_epoch()
    restore(resumed.parts(), capture(interrupted.parts()))
    for _ in range(len(case.run.epochs) - 1):
        resumed.train_epoch()
    case.require_same(resumed, "of a run that was resumed after an epoch")


def _check_load(case: MethodCase) -> None:
    task = case.task
    empty_task = replace(task, **make_placeholder_images(task.text_features, task.n_seeds))
    method = case.build(empty_task, case.bench.seeds)
    restore(method.learned() or {}, capture(case.run.method.learned() or {}))
    case.require_same(method, "of a method that was loaded")


def _check_inputs(case: MethodCase) -> None:
    task, model = case.bench.task(case.bench.seeds), case.bench.clip._model
    tensors = {f"task.{name}": x for name, x in vars(task).items() if isinstance(x, Tensor)}
    tensors |= {f"CLIP's {name}": value for name, value in model.state_dict().items()}
    before = {name: value.clone() for name, value in tensors.items()}
    case.train(task, case.bench.seeds)
    names = [name for name, value in tensors.items() if not torch.equal(value, before[name])]
    require(not names, f"it has modified {', '.join(names[:5])}")


def _check_unit_norm(case: MethodCase) -> None:
    (norms,) = (samples.norm(dim=-1) for samples in case.run.outputs)
    require_equal(norms, torch.ones_like(norms), "norms of the samples and 1", 1e-5)


def _check_settings(case: MethodCase) -> None:
    method, planned = case.run.method, getattr(case.config, "epochs", 0)
    distinct = {tuple(sorted(choice.items())) for choice in method.inference_grid}
    require(len(distinct) == len(method.inference_grid), "inference_grid has duplicate entries")
    epochs = method.epochs
    require(epochs == planned, f"epochs must be {planned} as in the settings, got {epochs}")


def _check_independence(case: MethodCase) -> None:
    images, finetuner = case.bench.images, case.run.method
    for choice, logits in zip(finetuner.inference_grid, case.run.outputs, strict=True):
        tolerance = ROUNDING * float(logits.abs().max())
        reversed_logits = finetuner.logits(images.flip(0), choice).flip(1)
        require_equal(reversed_logits, logits, "logits of the images in reverse order", tolerance)
        for i in (0, len(images) - 1):
            solo_logits = finetuner.logits(images[i, None], choice)[:, 0]
            require_equal(
                solo_logits,
                logits[:, i],
                f"logits of image {i} with and without other images",
                tolerance,
            )


def _check_restores(case: MethodCase) -> None:
    untrained, restored = (case.build(case.task, case.bench.seeds) for _ in range(2))
    state = restored.state_dict()
    for _ in range(restored.epochs):
        restored.train_epoch()
    restored.load_state_dict(state)
    methods = (restored, untrained)
    outputs = (case.outputs(method, case.task, case.bench.seeds) for method in methods)
    for actual, expected in zip(*outputs, strict=True):
        require_equal(actual, expected, "logits of a restored epoch", 0)


def _check_evaluation_changes_nothing(case: MethodCase) -> None:
    finetuner = case.build(case.task, case.bench.seeds)
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
        finetuner.logits(-case.bench.images, finetuner.inference_grid[0])
    case.require_same(finetuner, "after an evaluation between epochs")


Checks = Mapping[str, Callable[[MethodCase], None]]
METHOD_CHECKS: Final[Checks] = {
    "it can be built, trained and evaluated": _check_runs,
    "its outputs are finite and have the right shape": _check_finite,
    "each metric of an epoch is one finite number per seed": _check_metrics,
    "the same seeds give the same results under any global seed of torch": _check_determinism,
    "a seed has the same results with and without other seeds": _check_solo_runs,
    "a resumed run has exactly the same results": _check_resumes,
    "its outputs depend only on its saved state (parameters, persistent buffers)": _check_load,
    "it does not modify CLIP's weights or the task": _check_inputs,
}
"""Checks of generators and fine-tuners, by requirement."""
GENERATOR_CHECKS: Final[Checks] = {**METHOD_CHECKS, "samples have unit norm": _check_unit_norm}
FINETUNER_CHECKS: Final[Checks] = {
    **METHOD_CHECKS,
    "its inference options are distinct, and its epochs are those of its settings": _check_settings,
    "the logits of an image do not depend on the other images": _check_independence,
    "an earlier epoch can be restored": _check_restores,
    "evaluation changes nothing": _check_evaluation_changes_nothing,
}


@dataclass(frozen=True)
class DatasetCase:
    """A dataset to check.

    Attributes:
        name: Name of the dataset in a YAML.
        data_root: Folder that contains the datasets' folders. None if the dataset needs none.
    """

    name: str
    data_root: Path | None

    @cached_property
    def scan(self) -> DatasetScan:
        """Content of the dataset on disk."""
        return scan_dataset(self.name, self.data_root)


def check_dataset(name: str, data_root: Path | None = None) -> Iterator[CheckResult]:
    """Check that a dataset meets all requirements. No image is encoded.

    Args:
        name: Name of the dataset in a YAML.
        data_root: Folder that contains the datasets' folders. None if the dataset needs none, like
            packaged datasets and some plugins.

    Returns:
        An iterator over the results. Each check runs when its result is requested.

    Example:
        >>> all(result.passed for result in check_dataset("photos"))
        True
    """
    return run_checks(DATASET_CHECKS, {"": DatasetCase(name, data_root)})


def _check_readable(case: DatasetCase) -> None:
    require(not case.scan.faults, "; ".join(case.scan.faults[:5]))
    names = case.scan.class_names
    require(len(names) >= 2, f"it must have at least 2 classes, got {len(names)}")
    wrong_names = [name for name in names if not isinstance(name, str)]
    require(not wrong_names, f"class names must be text, got {wrong_names[:5]}")


def _check_template(case: DatasetCase) -> None:
    template = find_spec(case.name, case.data_root).template
    n_braces = template.count("{}") if isinstance(template, str) else 0
    require(n_braces == 1, f"template must have one {{}} for a class name, got {template!r}")


def _check_labels(case: DatasetCase) -> None:
    n_cls = len(case.scan.class_names)
    splits = list(case.scan.splits)
    require(set(splits) == set(SPLITS), f"splits must be {', '.join(SPLITS)}, got {splits}")
    for name, split in case.scan.splits.items():
        labels = split.labels
        require(
            isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1,
            f"labels of split {name} must be a one-dimensional int64 array",
        )
        n_images, n_labels = len(split.images), len(labels)
        require(n_labels == n_images, f"split {name} has {n_images} images, but {n_labels} labels")
        if n_labels:
            lowest, highest = labels.min(), labels.max()
            require(
                bool(lowest >= 0 and highest < n_cls),
                f"labels of split {name} must be from 0 to {n_cls - 1}, got {lowest} to {highest}",
            )
    require(len(case.scan.splits["test"]) > 0, "split test has no images")


def _check_decodable(case: DatasetCase) -> None:
    for name, split in case.scan.splits.items():
        step = max(1, math.ceil(len(split) / DECODED_PER_SPLIT))
        for image in split.images[::step]:
            require(
                type(image) is ImageFile,
                f"images must be ship.datasets.ImageFile, got {type(image)}",
            )
            mode = image.open().mode
            fault = f"{image.name} of split {name} must be decoded as RGB, got {mode}"
            require(mode == "RGB", fault)


def _check_reproducible(case: DatasetCase) -> None:
    first, second = (load_dataset(case.name, case.data_root) for _ in range(2))
    require(first.fingerprint == second.fingerprint, "its fingerprint differs when read again")
    require(first.class_names == second.class_names, "its class names differ when read again")


@dataclass(frozen=True)
class MetricCase:
    """A metric to check, on random logits for 12 images of 4 classes, 2 of which are seen.

    Attributes:
        name: Name of the metric in a YAML.
    """

    name: str

    @cached_property
    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments of the metric: logits, labels, mask of seen classes. Read-only as in trials."""
        logits = np.random.default_rng(0).normal(size=(12, 4))
        arrays = (logits, np.arange(12) % 4, np.array([True, True, False, False]))
        for array in arrays:
            array.setflags(write=False)
        return arrays

    def value(self) -> Any:
        """Compute and return the metric."""
        return METRICS[self.name](*self.inputs)


def check_metric(name: str) -> Iterator[CheckResult]:
    """Check that a metric meets all requirements.

    Args:
        name: Name of the metric in a YAML.

    Returns:
        An iterator over the results. Each check runs when its result is requested.

    Raises:
        KeyError: There is no metric of that name.

    Example:
        >>> from ship.plugins import load_plugin
        >>> load_plugin("my_metric.py")  # doctest: +SKIP
        >>> all(result.passed for result in check_metric("class_mean"))  # doctest: +SKIP
        True
    """
    METRICS[name]  # raises KeyError here, not in the iterator
    return run_checks(METRIC_CHECKS, {"": MetricCase(name)})


def _check_value(case: MetricCase) -> None:
    value = case.value()
    require(is_finite_number(value), f"it must return a finite number, got {value!r}")


def _check_deterministic(case: MetricCase) -> None:
    first, second = case.value(), case.value()
    require(first == second, f"it returned {first!r}, then {second!r}")


METRIC_CHECKS: Final[Mapping[str, Callable[[MetricCase], None]]] = {
    "it returns a finite number": _check_value,
    "it returns the same number for the same predictions": _check_deterministic,
}
"""Checks of metrics, by requirement."""
DATASET_CHECKS: Final[Mapping[str, Callable[[DatasetCase], None]]] = {
    "it can be read, and has at least 2 classes": _check_readable,
    "its template has one {} for a class name": _check_template,
    "every image has a valid label": _check_labels,
    "images can be decoded (checked for some of each split)": _check_decodable,
    "it has the same content when it is read again": _check_reproducible,
}
"""Checks of datasets, by requirement."""
