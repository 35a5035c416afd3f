"""The cost of fine-tuners that learn contexts: a pass through the text tower a step."""

from ship.configs import (
    CoCoOpConfig,
    CoOpConfig,
    CoOpDePTConfig,
    KgCoOpConfig,
    KgCoOpDePTConfig,
    TCPConfig,
)
from ship.cost.model import Cost, Memory, product, split
from ship.cost.shapes import TowerShape
from ship.cost.tasks import TaskShape
from ship.cost.text import counted, inner_pass, plain_pass, shared_pass
from ship.cost.training import FinetunerCost, SynthesisCost, scores, stepwise
from ship.finetuners.cocoop import PROMPTS_AT_ONCE


def coop(
    config: CoOpConfig | KgCoOpConfig | CoOpDePTConfig | KgCoOpDePTConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The class names once a step, behind each replica's contexts; with DePT a head of classes."""
    own = isinstance(config, CoOpConfig) and config.class_specific
    position = config.name_position if isinstance(config, CoOpConfig) else "end"
    lengths = tower.name_lengths(task.names, config.n_ctx, position)
    f, n_cls = tower.feature_dim, len(task.names)
    headed = isinstance(config, CoOpDePTConfig | KgCoOpDePTConfig)

    def encode(gradient: bool) -> Cost:
        if position == "end" and not own:
            prefix, names = 1 + config.n_ctx, counted(lengths)
            return shared_pass(tower, replicas, prefix, names, gradient, replicas)
        whole = [config.n_ctx + length for length in lengths]
        return plain_pass(tower, counted(whole, replicas), gradient, replicas)

    def step(rows: int) -> Cost:
        head = headed * product(replicas * (rows + n_cls), f, n_cls, 2)
        return encode(True) + Cost(network_flops=product(replicas * rows, f, n_cls, 1) + head)

    def logits(pictures: int) -> Cost:
        head = Cost(evaluation_flops=headed * product(replicas * pictures, f, n_cls))
        return encode(False) + scores(pictures, f, n_cls, replicas) + head

    return stepwise(config, task, synthesis, step, logits)


def tcp(
    config: TCPConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The class names once a step, the contexts each class's own from a block on; and their net."""
    lengths = counted(tower.name_lengths(task.names, config.n_ctx))
    f, n_cls, depth = tower.feature_dim, len(task.names), config.layer or 2 * tower.layers // 3
    hidden, made = max(1, f // config.reduction), config.n_ctx * tower.width

    def encode(gradient: bool) -> Cost:
        net = product(replicas * n_cls, f, hidden, 1 * gradient)
        net += product(replicas * n_cls, hidden, made, 2 * gradient)
        passed = inner_pass(tower, replicas, config.n_ctx, lengths, depth, gradient)
        return passed + Cost(network_flops=net)

    def step(rows: int) -> Cost:
        return encode(True) + Cost(network_flops=product(replicas * rows, f, n_cls, 1))

    def logits(pictures: int) -> Cost:
        return encode(False) + scores(pictures, f, n_cls, replicas)

    return stepwise(config, task, synthesis, step, logits)


def cocoop(
    config: CoCoOpConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The class names once a picture, in pieces; the meta-net runs anew for each piece."""
    f, n_cls = tower.feature_dim, len(task.names)
    hidden = max(1, f // config.reduction)
    names = counted(tower.name_lengths(task.names, config.n_ctx))
    at_once = max(1, PROMPTS_AT_ONCE // n_cls)

    def pieces(rows: int, gradient: bool) -> Cost:
        """Some pairs of replica and picture."""
        total = Cost()
        for pairs in split(rows, at_once):
            total += shared_pass(tower, pairs, 1 + config.n_ctx, names, gradient, 1)
            token = product(rows, f, hidden, 1 * gradient)
            token += product(rows, hidden, tower.width, 2 * gradient)
            token += product(pairs, f, n_cls, 1 * gradient)
            total += Cost(network_flops=token)
        # a piece is as large as it is, whatever the replicas
        bounded = Memory(fixed=total.memory.per_replica)
        return Cost(
            total.text_tokens,
            total.text_tokens_backward,
            total.text_flops,
            total.network_flops,
            memory=bounded,
        )

    def logits(pictures: int) -> Cost:
        batches = split(pictures, max(1, at_once // replicas))
        total = Cost()
        for size in sorted(set(batches)):
            total += pieces(replicas * size, False).times(batches.count(size))
        held = scores(pictures, 0, n_cls, replicas)
        return total + held

    return stepwise(config, task, synthesis, lambda n: pieces(replicas * n, True), logits)
