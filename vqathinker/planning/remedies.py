"""Which changes of a run's settings would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from vqathinker.planning.recipe import Planned, model_sizes
from vqathinker.planning.run import Run, key_value_bytes, memory
from vqathinker.planning.sizes import BF16

BATCH = "batch"
LORA_RANK = 16
SHORTER = 1024  # tokens of a response
MARGIN = 0.05  # of the GPU's memory: how far the estimates of activations were off real ones at most
MOST_TOGETHER = 3  # changes in one advice, unless it takes more


@dataclass(frozen=True)
class Change:
    """One way to save memory.

    Attributes:
        subject: what it changes; of one subject a run takes one change.
        label: as a user would write it.
        apply: the run with it.
    """

    subject: str
    label: str
    apply: Callable[[Run], Run]


def verdict(run: Run) -> str:
    """Whether a run "fits" with a margin for what is estimated, is "tight", or "does not fit"."""
    if run.engine == "colocate" and not engine_fits(run):
        return "does not fit"
    peak = memory(run).peak
    size = run.gpu.memory
    if peak <= (1 - MARGIN) * size:
        return "fits"
    return "tight" if peak <= size else "does not fit"


def fits(run: Run) -> bool:
    """Whether the longest step leaves the margin."""
    return verdict(run) == "fits"


def engine_fits(run: Run) -> bool:
    """Whether a colocated vLLM engine's share holds its weights and the cache of one response."""
    model = run.model
    one = (model.prompt_length + run.longest) * key_value_bytes(model, BF16)
    return run.utilization * run.gpu.memory >= BF16 * model.num_language + one


def changes(planned: Planned) -> Iterator[Change]:
    """Settings that save memory: those that change no result first, those that change the training last."""
    run = planned.run
    if not run.checkpointing:
        yield Change("layers", "--gradient_checkpointing true", lambda r: replace(r, checkpointing=True))
    if not run.packed:
        yield Change("rows", "--packed true", lambda r: replace(r, packed=True))
    if run.has_copy and not run.offloads_reference and run.zero < 3:
        yield Change("reference", "--offload_reference true", lambda r: replace(r, offloads_reference=True))
    yield from _smaller_batches(run)
    if 0 < run.zero < 3 and run.num_gpus > 1:
        label = "--config_file zero3 (all weights sharded)"
        yield Change("zero", label, lambda r: replace(r, zero=3, offloads_reference=False))
    if run.engine == "colocate":
        if not run.sleeps:
            yield Change("engine", "--vllm_enable_sleep_mode true", lambda r: replace(r, sleeps=True))
        label = "--vllm_mode server (rollouts on other GPUs)"
        yield Change("engine", label, lambda r: replace(r, engine="server", sleeps=False))
    if run.longest > SHORTER:
        label = f"--max_completion_length {SHORTER}"
        yield Change("length", label, lambda r: replace(r, longest=SHORTER))
    if run.has_copy:
        label = "--beta 0 (no reference model)"
        yield Change("reference", label, lambda r: replace(r, has_reference=False))
    if not run.model.has_adapters:
        adapted = replace(planned.precision, use_peft=True, lora_r=LORA_RANK)
        model = model_sizes(planned.checkpoint, adapted, has_masters=run.zero > 0)
        label = f"--use_peft true --lora_r {LORA_RANK} (LoRA)"
        yield Change("weights", label, lambda r: replace(r, model=model))


def _smaller_batches(run: Run) -> Iterator[Change]:
    """Fewer rows at a time, in as many more micro-batches."""
    factor = 2
    while run.rows % factor == 0:
        label = (
            f"--per_device_train_batch_size {run.rows // factor} "
            f"--gradient_accumulation_steps {run.accumulation * factor}"
        )

        def smaller(r: Run, factor: int = factor) -> Run:
            return replace(
                r,
                rows=r.rows // factor,
                accumulation=r.accumulation * factor,
                generation_parts=r.generation_parts * factor,
            )

        yield Change(BATCH, label, smaller)
        factor *= 2


def remedies(planned: Planned) -> list[tuple[list[str], Run]]:
    """Every set of changes with which a run fits and of which none is needless, the smallest sets first.

    Sets of more than a few changes are looked for only where no smaller one suffices.
    """
    by_subject: dict[str, list[Change]] = {}
    for change in changes(planned):
        by_subject.setdefault(change.subject, []).append(change)
    found: list[tuple[Change, ...]] = []
    for number in range(1, len(by_subject) + 1):
        if number > MOST_TOGETHER and found:
            break
        for subjects in combinations(by_subject.values(), number):
            for chosen in product(*subjects):
                if not any(_suffices(other, chosen) for other in found) and fits(apply(planned.run, chosen)):
                    found.append(chosen)
    return [([change.label for change in chosen], apply(planned.run, chosen)) for chosen in found]


def _suffices(other: Sequence[Change], chosen: Sequence[Change]) -> bool:
    """Whether others, found before, show some of the chosen to be needless."""
    rest = {change.label for change in chosen if change.subject != BATCH}
    needed = {change.label for change in other if change.subject != BATCH}
    batch = any(change.subject == BATCH for change in chosen)
    return needed <= rest and (batch or all(change.subject != BATCH for change in other))


def apply(run: Run, taken: Sequence[Change]) -> Run:
    """A run after some changes."""
    for change in taken:
        run = change.apply(run)
    return run
