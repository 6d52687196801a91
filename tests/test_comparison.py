"""Votes on two media, and rankings of many."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call, write_video
from scipy import optimize, stats

from vqathinker.media.container import VideoError
from vqathinker.scoring import Asked, Scorer
from vqathinker.scoring.comparison import PRIOR, Votes, fit, vote_by_questions, vote_by_scores
from vqathinker.scoring.result import Reply, Score
from vqathinker.types import FloatArray

NAMES = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")


class ScriptedScorer:
    """Says what it is told about files."""

    def __init__(
        self, scores: dict[str, Sequence[float]], answers: dict[tuple[str, str], str] | None = None
    ) -> None:
        self.scores = scores
        self.answers = answers or {}

    def stream(self, paths: Sequence[str], *, expand: bool, samples: int, seed: int) -> Iterator[Score]:
        for path in paths:
            if path not in self.scores:
                yield Score(path=path, error="no such file")
            else:
                yield Score(path=path, samples=tuple(self.scores[path]))

    def interview(self, media: Sequence[Asked], *, samples: int = 1, seed: int = 0) -> Iterator[list[Reply]]:
        for asked in media:
            path = asked.paths[0]
            text = self.answers.get((path, asked.paths[-1]), "A")
            replies = [Reply(path=path, question=str(question), text=text) for question in asked.questions]
            yield [reply for reply in replies for _ in range(samples)]


def votes_of(truth: FloatArray, rounds: int, seed: int = 0) -> FloatArray:
    """Votes drawn by Bradley–Terry's model."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(truth[None] - truth[:, None]))
    upper = np.triu(rng.random((rounds, len(truth), len(truth))) < probability, 1).astype(float)
    shares = upper + np.tril(1 - upper.transpose(0, 2, 1), -1)
    shares[:, np.eye(len(truth), dtype=bool)] = np.nan
    return shares


def test_strengths_are_the_most_likely_ones() -> None:
    """Against the likelihood, maximised directly; the prior is a draw of everybody with everybody."""
    shares = votes_of(np.array([1.0, 0.2, -0.3, -0.9]), 40)
    wins = np.nansum(shares, axis=0) + PRIOR / 2 * (1 - np.eye(4))

    def loss(free: FloatArray) -> float:
        theta = np.append(free, -free.sum())
        return float((wins * np.log1p(np.exp(theta[None] - theta[:, None]))).sum())

    best = optimize.minimize(loss, np.zeros(3), method="BFGS").x
    np.testing.assert_allclose(fit(shares), np.append(best, -best.sum()), atol=1e-3)


def test_intervals_hold_the_truth() -> None:
    truth = np.array([1.0, 0.2, -0.3, -0.9])
    held = []
    for seed in range(20):
        standings = {s.name: s for s in Votes(NAMES, votes_of(truth, 60, seed)).ranking()}
        for name, value in zip(NAMES, truth, strict=True):
            held.append(standings[name].strength.low <= value <= standings[name].strength.high)
    assert stats.binomtest(sum(held), len(held), 0.93).pvalue > 1e-3


def test_who_always_wins_has_a_finite_strength() -> None:
    standings = Votes(NAMES[:2], np.array([[[np.nan, 1.0], [0.0, np.nan]]])).ranking()
    assert [standing.name for standing in standings] == ["a.mp4", "b.mp4"]
    assert 0 < standings[0].strength.value < 10
    assert math.isnan(standings[0].strength.low)  # of one round there is no interval
    with pytest.raises(ValueError, match="nothing to rank"):
        Votes(NAMES, np.full((1, 4, 4), np.nan)).ranking()


def test_votes_by_scores() -> None:
    nan = math.nan
    scorer: Any = ScriptedScorer({"a.mp4": [4.0, 3.0, 3.0, nan], "b.mp4": [3.0, 3.0, 3.5, 2.0]})
    votes = vote_by_scores(scorer, NAMES[:2], 4)
    np.testing.assert_array_equal(votes.shares[:, 0, 1], [1.0, 0.5, 0.0, nan])
    np.testing.assert_array_equal(votes.shares[:, 1, 0], [0.0, 0.5, 1.0, nan])
    assert (votes.preference().value, votes.num_invalid) == (0.5, 1)
    votes = vote_by_scores(scorer, NAMES, 4)  # those that can be read
    assert (votes.names, votes.errors) == (NAMES[:2], dict.fromkeys(NAMES[2:], "no such file"))
    assert votes.rounds() == (1, 1, 1)
    with pytest.raises(VideoError, match="no such file"):
        vote_by_scores(scorer, NAMES[1:], 4)


def test_a_preference_for_the_first_place_cancels() -> None:
    """Who always says A has no opinion; who says B once and A once means the same medium."""
    scorer: Any = ScriptedScorer({})
    votes = vote_by_questions(scorer, NAMES[:3])
    assert votes.first_shown == 1.0
    np.testing.assert_array_equal(votes.shares[0][~np.eye(3, dtype=bool)], 0.5)
    honest: Any = ScriptedScorer({}, {("a.mp4", "b.mp4"): "B", ("b.mp4", "a.mp4"): "A. the first one"})
    votes = vote_by_questions(honest, NAMES[:2])
    assert (votes.preference().value, votes.preference(1, 0).value, votes.first_shown) == (0.0, 1.0, 0.5)
    half: Any = ScriptedScorer({}, {("a.mp4", "b.mp4"): "I cannot tell", ("b.mp4", "a.mp4"): "A"})
    votes = vote_by_questions(half, NAMES[:2])  # an order without a vote: the other would not cancel
    assert (votes.num_invalid, math.isnan(votes.preference().value)) == (1, True)


def test_what_is_not_known_is_not_made_up() -> None:
    """No interval where all rounds agree, and no rank without a vote."""
    always = np.array([[[np.nan, 1.0, np.nan], [0.0, np.nan, np.nan], [np.nan] * 3]] * 8)
    votes = Votes(NAMES[:3], always)
    assert (votes.preference().value, math.isnan(votes.preference().low)) == (1.0, True)
    standings = votes.ranking()
    assert [standing.name for standing in standings] == ["a.mp4", "b.mp4"]
    assert math.isnan(standings[0].strength.low)


LIMITS = ["--max-new-tokens", "6", "--workers", "1"]


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["slowfast"]


def test_two_by_questions(checkpoint: Path, labelled_videos: Path) -> None:
    """A model of random weights chooses nothing: said, and no preference made up."""
    files = [labelled_videos / "00.mp4", labelled_videos / "01.mp4"]
    result = call("compare", checkpoint, *files, "--by", "questions", "--samples", 2, *LIMITS)
    assert result.exit_code == 2
    assert "no answer chooses one of the two" in result.stderr
    with Scorer.from_pretrained(checkpoint, max_new_tokens=4, num_workers=1) as scorer:
        (once,) = scorer.interview([Asked((str(files[0]),), ("Why?",))], samples=3)
        assert len(once) == 3


def test_a_tournament(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_video(tmp_path / f"{number}[b].mp4", 12)
    (tmp_path / "broken.mp4").write_text("no video")
    scores = {str(tmp_path / f"{n}[b].mp4"): [1.0 + n, 2.0 + n / 2, 3.0 - n] for n in range(3)}
    monkeypatch.setattr(Scorer, "stream", ScriptedScorer(scores).stream)
    out = tmp_path / "ranking.csv"
    options = ["--tournament", tmp_path, "--samples", 3, "--out", out, *LIMITS]
    result = call("compare", checkpoint, *options)
    assert result.exit_code == 1, result.output
    assert "broken.mp4: no such file" in result.stderr  # as the scripted scorer has it
    assert "2[b].mp4" in result.stdout.replace("\n", "")
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert [Path(row["file"]).name for row in rows] == ["2[b].mp4", "1[b].mp4", "0[b].mp4"]
    assert float(rows[0]["low"]) <= float(rows[0]["strength"]) <= float(rows[0]["high"])
    assert call("compare", checkpoint, *options).exit_code == 2  # it exists


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tournament", "empty", "--out", "nowhere/a.csv"], "nowhere is not a folder"),
        (["a.mp4"], "1 files: two are compared"),
        (["a.mp4", "b.mp4"], "a.mp4: no such file"),
        (["--tournament", "nowhere"], "is not a folder"),
        (["--tournament", "empty"], "holds 0 media"),
        (["a.mp4", "b.mp4", "--by", "score"], "did you mean scores?"),
        (["a.mp4", "b.mp4", "--tournament", "empty"], "leave the files out"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str], message: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = call("compare", checkpoint, *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_one_file_is_compared_with_nothing() -> None:
    with pytest.raises(ValueError, match="1 files: at least 2 can be compared"):
        vote_by_questions(ScriptedScorer({}), ["a.mp4"])  # type: ignore[arg-type]
