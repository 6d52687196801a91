"""Does the score follow from the reasoning? What a model answers after the reasoning of another clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from .runs import BATCH_SIZE, MAX_NEW_TOKENS


def exchange(checkpoint: Path, scored: Path, *, seed: int = 0) -> dict[str, float]:
    """SRCC on an evaluated set, and when each clip's reasoning is replaced by that of another clip.

    Args:
        checkpoint: what answered.
        scored: folder of the evaluation, with its predictions.
        seed: of the exchange, in which every clip gets another one's.

    Returns:
        `own` and `other`.
    """
    from vqathinker import answers
    from vqathinker.metrics import srcc

    table = pd.read_csv(scored / "predictions.csv")
    parsed = [answers.parse(str(text)) for text in table["text"]]
    said = np.array(["" if answer is None else answer.reasoning for answer in parsed])
    order = np.random.default_rng(seed).permutation(len(said))
    other = np.empty_like(said)
    other[order] = said[np.roll(order, 1)]
    scores = after_reasoning(checkpoint, table["path"], other)
    own = table["score"].to_numpy()
    target = table["target"].to_numpy()
    valid = np.isfinite(own) & np.isfinite(scores)
    return {
        "own": round(srcc(own[valid], target[valid]), 4),
        "other": round(srcc(scores[valid], target[valid]), 4),
    }


def after_reasoning(checkpoint: Path, paths: Sequence[str], reasoning: Sequence[str]) -> np.ndarray:
    """The greedy score (N,) of each clip after a given think block, NaN where there is none.

    Raises:
        VideoError: if a clip cannot be read.
    """
    from vqathinker import Scorer, answers
    from vqathinker.media.video import read_keyframes
    from vqathinker.rollout import HFEngine, Sampling, VideoEncoder

    scores = []
    with Scorer.from_pretrained(checkpoint) as scorer:
        tokenizer = scorer.processor.tokenizer
        ids = partial(tokenizer.encode, add_special_tokens=False)
        encoder = VideoEncoder(scorer.model, scorer.processor, scorer.setting)
        engine = HFEngine(scorer.model, scorer.processor)
        for start in range(0, len(paths), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            openings = [f"<think>{said}</think><answer>" for said in reasoning[part]]
            frames = [read_keyframes(path, scorer.setting.num_frames).frames for path in paths[part]]
            requests = [encoder.request(video, "") for video in encoder.encode(frames)]
            requests = [
                replace(request, prompt_ids=[*request.prompt_ids, *ids(opening)])
                for request, opening in zip(requests, openings, strict=True)
            ]
            found = engine.generate(requests, 1, Sampling(max_new_tokens=MAX_NEW_TOKENS))
            for opening, (response,) in zip(openings, found, strict=True):
                said = tokenizer.decode(response.token_ids, skip_special_tokens=True)
                scores.append(answers.clip(answers.score(opening + said)))
    return np.array(scores)
