"""From a read batch to its responses: what is perturbed, encoded and asked, and whose response is whose."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from perturbations import draw
from vqathinker.media.container import VideoError
from vqathinker.media.names import is_image_name
from vqathinker.rollout import Response, RolloutRequest
from vqathinker.rollout.encoder import EncodedVideo, VideoEncoder
from vqathinker.samples import SCORE
from vqathinker.training.grpo.generation import Key, ReadBatch, Twin, key_of
from vqathinker.training.grpo.rows import RowResponse
from vqathinker.training.unreadable import black_video
from vqathinker.types import Perturbation, Reward


def draw_twins(
    batch: ReadBatch,
    perturbations: Mapping[str, Perturbation],
    rewards: Iterable[Reward],
    *,
    num_frames: int,
    seed: int,
    step: int,
) -> dict[Key, Twin]:
    """One mode and its order of frames for each sample that some reward compares with its copy.

    The same for a sample and step on every process and after a resume. A picture has no order of frames.
    """
    asking = [reward for reward in rewards if getattr(reward, "needs_perturbed", False)]

    def is_compared(task: str) -> bool:
        return any(task in getattr(reward, "tasks", (task,)) for reward in asking)

    if not perturbations:
        return {}
    return {
        key: Twin(*draw(perturbations, num_frames, video_id="/".join(key), seed=seed, step=step))
        for key, row in batch.samples.items()
        if not is_image_name(row["path"]) and is_compared(row.get("task") or SCORE)
    }


def encode_files(encoder: VideoEncoder, batch: ReadBatch) -> dict[str, EncodedVideo]:
    """Each file of the batch once, black frames for one that cannot be read."""
    pixels = [
        black_video(encoder.processor) if isinstance(file.pixels, VideoError) else file.pixels
        for file in batch.files.values()
    ]
    places = [file.cache_path for file in batch.files.values()]
    images = [file.is_readable and is_image_name(path) for path, file in batch.files.items()]
    return dict(zip(batch.files, encoder.encode_pixels(pixels, places, images), strict=True))


def make_requests(
    encoder: VideoEncoder,
    batch: ReadBatch,
    encoded: Mapping[str, EncodedVideo],
    twins: Mapping[Key, Twin],
    step: int,
) -> list[RolloutRequest]:
    """The prompts of all samples, then those of the twins, each with the question of its sample."""
    samples = batch.samples
    videos = {key: encoded[row["path"]] for key, row in samples.items()}
    originals = [videos[key] for key in twins]
    perturbed = encoder.perturb(originals, [twin.indices for twin in twins.values()])
    shown = {"clean": videos, "twin": dict(zip(twins, perturbed, strict=True))}
    return [
        encoder.request(video, json.dumps([*key, kind, step]), question=samples[key].get("question"))
        for kind, of_kind in shown.items()
        for key, video in of_kind.items()
    ]


def assign(
    batch: ReadBatch,
    twins: Mapping[Key, Twin],
    requests: Sequence[RolloutRequest],
    responses: Sequence[Sequence[Response]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[RowResponse]:
    """Give each row of a sample one of its responses, by id.

    Args:
        batch: the rows.
        twins: the samples that have one.
        requests: those of the samples, then those of the twins.
        responses: to each of them.
        tokenizer: turns the ids of the twins' responses into text.
    """
    position = {key: i for i, key in enumerate(batch.samples)}
    twin_position = {key: len(position) + i for i, key in enumerate(twins)}
    taken: Counter[Key] = Counter()
    assigned = []
    for row in batch.rows:
        key = key_of(row)
        k = taken[key]
        taken[key] += 1
        response = responses[position[key]][k]
        twin_text = None
        if key in twins:
            twin_ids = responses[twin_position[key]][k].token_ids
            twin_text = str(tokenizer.decode(twin_ids, skip_special_tokens=True))
        ids = requests[position[key]].prompt_ids
        assigned.append(RowResponse(ids, response.token_ids, response.logprobs, twin_text))
    return assigned
