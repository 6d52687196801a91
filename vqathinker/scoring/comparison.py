"""Which of several media are better: votes on every two of them, and the ranking that the votes make.

Votes come of sampled scores, or of questions about two media shown together. A ranking is Bradley–Terry's
(Biometrika 39, 1952): P(i better than j) = 1 / (1 + exp(−(θi − θj))), by choix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from vqathinker.choices import parse_choice
from vqathinker.media.container import VideoError
from vqathinker.metrics import Estimate, interval, with_spread
from vqathinker.scale import ALIKE, BETTER, WORSE
from vqathinker.scoring.scorer import Scorer
from vqathinker.scoring.task import Asked
from vqathinker.types import FloatArray

QUESTION = (
    "Which of the two has the better quality? Look at sharpness, noise, compression, exposure, colour and "
    "motion.\nA. the first one\nB. the second one\nC. they are alike\nAnswer with the letter alone."
)
OPTIONS = ("the first one", "the second one", "they are alike")
VOTES = (BETTER, WORSE, ALIKE)  # of the options
REASON = "Which of the two has the better quality, and why?"
PRIOR = 0.2  # rounds in which everybody draws with everybody, which keeps what always wins finite
NUM_BOOTSTRAP = 500
LEAST = 2  # media that can be compared


@dataclass(frozen=True)
class Votes:
    """Votes on every two of N media in R rounds.

    Attributes:
        names: N files.
        shares: (R, N, N), 1 where the row's medium is better than the column's, 0 where it is worse, between
            where votes differ or they are alike, NaN without a vote.
        reasons: what the model says about each medium.
        first_shown: share of the votes for whichever was shown first, NaN where nothing was shown together.
        num_invalid: answers that choose nothing.
        errors: files that cannot be read, which are not among the names, and why.
    """

    names: tuple[str, ...]
    shares: FloatArray
    reasons: tuple[str, ...] = ()
    first_shown: float = math.nan
    num_invalid: int = 0
    errors: Mapping[str, str] = field(default_factory=dict)

    def preference(self, first: int = 0, second: int = 1) -> Estimate:
        """The share of votes for one of two media, with a 95 % interval over the rounds."""
        votes = self._known(first, second)
        if not votes.size:
            return Estimate(math.nan, math.nan, math.nan)
        drawn = np.random.default_rng(0).choice(votes, (NUM_BOOTSTRAP, len(votes)))
        resamples = drawn.mean(axis=1)
        return with_spread(interval(float(votes.mean()), resamples, 0.95))

    def rounds(self, first: int = 0, second: int = 1) -> tuple[int, int, int]:
        """In how many rounds one of two media is better, alike and worse."""
        votes = self._known(first, second).tolist()
        better = [vote for vote in votes if vote > ALIKE]
        worse = [vote for vote in votes if vote < ALIKE]
        return len(better), len(votes) - len(better) - len(worse), len(worse)

    def ranking(self) -> list[Standing]:
        """The media that have a vote, the best first.

        Raises:
            ValueError: if there is no vote.
        """
        ranked = [place for place in range(len(self.names)) if not np.isnan(self.shares[:, place]).all()]
        if not ranked:
            raise ValueError("no answer chooses one of two media: there is nothing to rank")
        shares = self.shares[:, ranked][:, :, ranked]
        strengths = fit(shares)
        rounds = len(shares)
        drawn = np.random.default_rng(0).integers(rounds, size=(NUM_BOOTSTRAP if rounds > 1 else 0, rounds))
        resamples = np.array([fit(shares[rows]) for rows in drawn]).reshape(-1, len(ranked))
        wins = np.nanmean(shares, axis=(0, 2))
        columns = zip(ranked, strengths, resamples.T, wins, strict=True)
        standings = [
            Standing(self.names[place], with_spread(interval(float(value), column, 0.95)), float(share))
            for place, value, column, share in columns
        ]
        return sorted(standings, key=lambda standing: -standing.strength.value)

    def _known(self, first: int, second: int) -> FloatArray:
        """(≤ R,) votes on two media."""
        votes = self.shares[:, first, second]
        known: FloatArray = votes[~np.isnan(votes)]
        return known


@dataclass(frozen=True)
class Standing:
    """A medium in a ranking.

    Attributes:
        name: of the file.
        strength: θ, 0 on average, with a 95 % interval over the rounds of votes.
        wins: share of its votes that it wins.
    """

    name: str
    strength: Estimate
    wins: float


def fit(shares: FloatArray) -> FloatArray:
    """The strengths θ (N,), 0 on average, of votes (R, N, N) as `Votes` has them.

    >>> always = np.array([[[np.nan, 1.0], [0.0, np.nan]]])
    >>> one, other = fit(always)
    >>> bool(one > 0), bool(one == -other)
    (True, True)
    """
    import choix

    wins = np.nansum(shares, axis=0) + PRIOR / 2
    np.fill_diagonal(wins, 0.0)
    strengths: FloatArray = choix.ilsr_pairwise_dense(wins)
    centred: FloatArray = strengths - strengths.mean()
    return centred


def vote_by_scores(scorer: Scorer, paths: Sequence[str], samples: int, seed: int = 0) -> Votes:
    """Votes of sampled scores: in round r the medium with the higher r-th score is better.

    Args:
        scorer: of the media.
        paths: N files.
        samples: R scores of each.
        seed: of the samples.

    Raises:
        ValueError: if fewer than two are given.
        VideoError: if fewer than two can be read.
    """
    _require_two(paths)
    scores = list(scorer.stream(paths, expand=False, samples=samples, seed=seed))
    errors = {score.path: score.error for score in scores if score.error is not None}
    found = [score for score in scores if score.error is None]
    if len(found) < LEAST:
        raise VideoError(*next(iter(errors.items())))
    drawn = np.array([score.samples for score in found], dtype=np.float64).T  # (R, N)
    one, other = drawn[:, :, None], drawn[:, None, :]
    shares = np.where(one == other, 0.5, np.where(one > other, 1.0, 0.0))
    shares[np.isnan(one) | np.isnan(other)] = np.nan
    return Votes(
        tuple(score.path for score in found),
        _without_diagonal(shares),
        tuple(score.reasoning for score in found),
        num_invalid=int(np.isnan(drawn).sum()),
        errors=errors,
    )


def vote_by_questions(scorer: Scorer, paths: Sequence[str], samples: int = 1, seed: int = 0) -> Votes:
    """Votes of answers about two media shown together, each two in both orders.

    A round's vote on two media is the mean of its answers in both orders, so that a preference for what is
    shown first cancels.

    Args:
        scorer: of the media.
        paths: N files.
        samples: R answers in each order; greedy if it is one.
        seed: of the samples.

    Raises:
        ValueError: if fewer than two are given.
        VideoError: if fewer than two can be read.
    """
    _require_two(paths)
    # both orders of two media follow one another, so that each file is read once for them
    pairs = [
        pair for one, other in combinations(range(len(paths)), 2) for pair in ((one, other), (other, one))
    ]
    media = [Asked((paths[one], paths[other]), (QUESTION,)) for one, other in pairs]
    votes = np.full((samples, len(paths), len(paths)), np.nan)
    errors: dict[str, str] = {}
    for (one, other), replies in zip(pairs, scorer.interview(media, samples=samples, seed=seed), strict=True):
        if replies[0].error is None:
            votes[:, one, other] = [vote_of(reply.text) for reply in replies]
        else:
            errors[replies[0].path] = replies[0].error
    left = [place for place, path in enumerate(paths) if path not in errors]
    if len(left) < LEAST:
        raise VideoError(*next(iter(errors.items())))
    votes = votes[:, left][:, :, left]
    given = votes[~np.isnan(votes)]
    return Votes(
        tuple(paths[place] for place in left),
        # NaN where an order has no vote: what was shown first would count
        _without_diagonal((votes + 1 - votes.transpose(0, 2, 1)) / 2),
        first_shown=float(given.mean()) if given.size else math.nan,
        num_invalid=int(samples * len(left) * (len(left) - 1) - given.size),
        errors=errors,
    )


def _require_two(paths: Sequence[str]) -> None:
    if len(paths) < LEAST:
        raise ValueError(f"{len(paths)} files: at least {LEAST} can be compared")


def vote_of(text: str) -> float:
    """The vote of an answer for what was shown first; NaN where it chooses nothing.

    >>> vote_of("B"), vote_of("they are alike"), vote_of("both are fine")
    (0.0, 0.5, nan)
    """
    choice = parse_choice(text, OPTIONS)
    return math.nan if choice is None else VOTES[choice]


def reasons_for(scorer: Scorer, first: str, second: str) -> Iterator[str]:
    """What the model says of two media shown together, in both orders."""
    media = [Asked((first, second), (REASON,)), Asked((second, first), (REASON,))]
    for (reply,) in scorer.interview(media):
        yield reply.text


def _without_diagonal(shares: FloatArray) -> FloatArray:
    """Votes (R, N, N) without those of a medium on itself."""
    own = np.eye(shares.shape[1], dtype=bool)
    return np.where(own, np.nan, shares)
