"""The forms in which others publish samples, read and written.

Read: LLaVA conversations (VQA²'s stages), VITAL's list of lists, DeQA-Score's labels, FineVD's and others'
conversations a line, Q-Bench-Video's questions, MaxWell's table. Written: conversations for LLaVA,
LLaMA-Factory and ms-swift. Standard library only.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from string import ascii_uppercase
from typing import Any

from vqathinker.choices import YES_NO
from vqathinker.samples import IMAGE, MOST_MEDIA, SCORE, VIDEO, Media, Sample
from vqathinker.scale import ALIKE, BETTER, WORSE, from_share

Entry = Mapping[str, Any]

MARK = "\ufeff"  # a byte order mark that a file has in the middle of a line
PLACEHOLDERS = re.compile(r"\s*<\|?(?:image|video)\|?>\s*")  # where the medium stands among the words
ASKS = frozenset({"human", "user"})
MEDIUM_KEYS = ("video", "image", "img_path", "video_path")
CLIP_KEY = "frames per sec"  # marks a video in VQA²'s files, whose key is `image`
VITAL_KEYS = frozenset({
    "conversations", *MEDIUM_KEYS, "label", "quality", "mos", "gt_score_norm", "std_norm", "target_dist",
})  # fmt: skip
BENCHMARK_KEYS = frozenset({"answers", "correct_choice", "correct_ans", "video", "video_name", "question"})
# of a sample's attributes, and of the columns that readers make of them
OWN_NAMES = frozenset(field.name for field in fields(Sample)) | {
    "prompt", "video_id", "path", "mos", "mos_low", "mos_high", "std", "beside",
}  # fmt: skip
VITAL_TOP = 5.0  # of its axis, from 0
PREFERENCES = {1: BETTER, 0: WORSE, 2: ALIKE}  # VITAL's labels of pairs
# MaxWell's axes by its columns, each from -1 to 1
AXES = {
    "A-1": "content", "A-2": "composition", "A-3": "colour", "A-4": "lighting", "A-5": "camera_trajectory",
    "T-1": "sharpness", "T-2": "focus", "T-3": "noise", "T-4": "motion_blur", "T-5": "stability",
    "T-6": "exposure", "T-7": "compression", "T-8": "fluency",
}  # fmt: skip
MAXWELL_COLUMNS = frozenset({"O", "A-all", "T-all", *AXES})
LETTERS = "ABCD"
LISTED = re.compile(r"(?<![A-Za-z])\(?([A-H])\s*[.:)]\s*")  # an option's letter in a question
# and in an answer, alone or with its words
ANSWERED = re.compile(r"^\(?([A-H])\)?(?:[.:)]\s*(.*)|)$", re.DOTALL)
BETWEEN = re.compile(r"[,;]?\s+(?:or|and)\s*$")
AROUND = " \t\n,.;?[](){}'\""
BRACKETED = re.compile(r"\[([^\]]*)\]")
REMARK = re.compile(r"\s*\([^()]*\)\s*$")  # "(Just answer the corresponding letter)"
FORMS = ("llava", "llama-factory", "swift")


def parse_published(text: str, *, dataset: str) -> list[Sample] | None:
    """The samples in the text of a file of another project, None if it is in none of the forms.

    Args:
        text: of the file.
        dataset: name of the data set.

    Raises:
        ValueError: naming the entry, if one cannot be read.
    """
    entries = _entries(text)
    try:
        first = next(entries)
    except (StopIteration, ValueError):
        return None
    read = _form_of(first[1])
    if read is None:
        return None
    samples: list[Sample] = []
    for number, (where, entry) in enumerate(chain([first], entries)):
        try:
            samples += read(entry, str(number), dataset)
        except (ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{where}: {what}") from error
    return samples


def _form_of(entry: Any) -> Callable[[Any, str, str], Iterable[Sample]] | None:  # noqa: ANN401  what JSON holds
    """What reads the entries of a file, by its first one; None for a form that is not known."""
    first = entry[0] if isinstance(entry, list) and entry else entry
    if not isinstance(first, dict):
        return None
    if "correct_choice" in first and "question" in first:
        return _benchmark
    if isinstance(entry, list):
        return _vital
    if "conversations" in first and any(key in first for key in MEDIUM_KEYS):
        return _conversation
    return None


def parse_maxwell(text: str, names: Sequence[str], *, dataset: str = "maxwell") -> list[Sample]:
    """The samples of MaxWell's table, whose rows have no names.

    The overall score (`O`, 1 to 5) is the target, the thirteen axes are the column `dimensions`, as shares.

    Args:
        text: of the CSV.
        names: file of each row.
        dataset: name of the data set.

    Raises:
        ValueError: if columns are missing, a value is no number, or there are not as many names.
    """
    rows = list(csv.DictReader(text.splitlines()))
    found = set(rows[0]) if rows else set()
    if not found >= MAXWELL_COLUMNS:
        raise ValueError(f"no table of MaxWell's: {min(MAXWELL_COLUMNS - found)} is missing")
    if len(names) != len(rows):
        raise ValueError(f"{len(names)} names for {len(rows)} rows")
    samples = []
    for name, row in zip(names, rows, strict=True):
        shares = {title: round((float(row[axis]) + 1) / 2, 6) for axis, title in AXES.items()}
        columns = {"dimensions": shares, "aesthetic": float(row["A-all"]), "technical": float(row["T-all"])}
        samples.append(Sample(name, dataset, (Media(name),), target=float(row["O"]), columns=columns))
    return samples


def export(samples: Iterable[Sample], form: str, *, root: str = "") -> Iterator[dict[str, Any]]:
    """Samples as conversations of one turn; those without an answer or with two media are left out.

    Args:
        samples: to be written.
        form: one of `FORMS`.
        root: folder that stands before the paths.

    Raises:
        ValueError: for another form.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}, choose one of {', '.join(FORMS)}")
    for sample in samples:
        if not is_exported(sample):
            continue
        (medium,) = sample.media
        path = os.path.join(root, medium.path)
        asked = f"<{medium.kind}>{sample.question or ''}"
        if form == "swift":
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": sample.answer}]
            yield {"messages": turns, f"{medium.kind}s": [path]}
            continue
        if form == "llava":  # where the medium stands is `<image>` for videos too
            asked = f"<image>\n{sample.question or ''}".rstrip("\n")
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": sample.answer}]
        if form == "llava":
            yield {"id": sample.id, medium.kind: path, "conversations": turns}
        else:
            yield {"conversations": turns, f"{medium.kind}s": [path]}


def is_exported(sample: Sample) -> bool:
    """Whether a sample can be a conversation about one medium."""
    return bool(sample.answer) and len(sample.media) < MOST_MEDIA


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON list, or of one object a line, each with where it stands; none of another text.

    Raises:
        ValueError: if what holds them is no JSON.
    """
    start = text.lstrip()[:1]
    if start == "[":
        for number, entry in enumerate(json.loads(text), 1):
            yield f"entry {number}", entry
    elif start == "{":
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: no JSON ({error})") from error


def _medium(entry: Entry) -> Media:
    """The medium of an entry; its kind by what the entry says, else by the suffix."""
    key = next((key for key in MEDIUM_KEYS if key in entry), None)
    if key is None:
        raise ValueError(f"no medium: expected one of {', '.join(MEDIUM_KEYS)}")
    path = str(entry[key]).replace(MARK, "")
    if CLIP_KEY in entry:
        return Media(path, VIDEO)
    return Media(path)


def _turns(entry: Entry) -> list[tuple[str, str]]:
    """Questions with their answers, without the places of media."""
    turns = entry["conversations"]
    if len(turns) % 2:
        raise ValueError(f"{len(turns)} turns: expected a question and an answer each")
    pairs = []
    for asked, said in zip(turns[::2], turns[1::2], strict=True):
        if asked["from"] not in ASKS:
            raise ValueError(f"a turn of {asked['from']!r} where a question is expected")
        question = PLACEHOLDERS.sub("\n", str(asked["value"])).strip()
        pairs.append((question, str(said["value"]).strip()))
    return pairs


def _conversation(entry: Entry, name: str, dataset: str) -> Iterator[Sample]:
    """A conversation, a sample for each of its turns; DeQA's labels among its keys."""
    medium = _medium(entry)
    turns = _turns(entry)
    known: dict[str, Any] = {}
    if "gt_score_norm" in entry:
        known["target"] = float(entry["gt_score_norm"])
        known["spread"] = float(entry["std_norm"]) if "std_norm" in entry else None
    if "level_probs" in entry:
        known["levels"] = _distribution(entry["level_probs"])
    told = {"conversations", *MEDIUM_KEYS, "id", "gt_score_norm", "std_norm", "level_probs"}
    columns = _others(entry, told)
    task = SCORE if known else "question"
    for number, (question, answer) in enumerate(turns):
        key = f"{entry.get('id', medium.path)}#{name}"
        options, correct = _options(question, answer)
        yield Sample(
            id=key if len(turns) == 1 else f"{key}-{number}",
            dataset=dataset,
            media=(medium,),
            task=task,
            question=question,
            answer=answer,
            options=options,
            correct=correct,
            columns=columns,
            **known,
        )


def _others(entry: Entry, told: Collection[str]) -> dict[str, Any]:
    """What else an entry says, as columns; under another name where it is one of ours."""
    others = {key: value for key, value in entry.items() if key not in told}
    return {f"column_{key}" if key in OWN_NAMES else key: value for key, value in others.items()}


def _options(question: str, answer: str) -> tuple[tuple[str, ...], int | None]:
    """The options that a question lists and which is right, where its answer is one of their letters.

    >>> _options("Which? A.Blur B.Noise (Just answer the corresponding letter)", "B")
    (('Blur', 'Noise'), 1)
    >>> _options("Is there blur?", "No"), _options("How is it?", "Good.")
    ((('Yes', 'No'), 1), ((), None))
    """
    if answer in YES_NO:
        return YES_NO, YES_NO.index(answer)
    marks = list(LISTED.finditer(question))
    letters = "".join(mark[1] for mark in marks)
    said = ANSWERED.match(answer)
    correct = -1 if said is None else letters.find(said[1])
    if said is None or correct < 0 or letters != ascii_uppercase[: len(letters)]:
        return (), None
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    texts = [question[mark.end() : end].strip().split("\n")[0] for mark, end in zip(marks, ends, strict=True)]
    options = tuple(map(_option, texts))
    words = (said[2] or "").strip(AROUND)
    return (options, correct) if words in ("", options[correct]) else ((), None)


def _option(text: str) -> str:
    """The words of an option, without what stands around or behind it.

    >>> _option("[blur]}Just answer the letter."), _option("Noise (Just answer the letter)")
    ('blur', 'Noise')
    """
    bracketed = BRACKETED.match(text)
    if bracketed:
        return bracketed[1].strip(AROUND)
    return BETWEEN.sub("", REMARK.sub("", text)).strip(AROUND)


def _vital(group: Sequence[Entry], name: str, dataset: str) -> Iterator[Sample]:
    """One item, or the two of a pair."""
    if len(group) > 1 and "label" in group[0]:
        first, second = group
        columns = {
            name: {**_others(entry, VITAL_KEYS), **_vital_score(entry)}
            for name, entry in (("first", first), ("second", second))
        }
        yield Sample(
            id=f"pair#{name}",
            dataset=dataset,
            media=(_medium(first), _medium(second)),
            task="pair",
            question="",
            preference=PREFERENCES[int(first["label"])],
            columns=columns,
        )
        return
    for number, entry in enumerate(group):
        turns = _turns(entry) if "conversations" in entry else [("", str(entry["quality"]))]
        question, answer = turns[0]
        score = _vital_score(entry)
        task = SCORE if score else "description" if "quality" in entry else "recognition"
        yield Sample(
            id=f"{_medium(entry).path}#{name}"
            if len(group) == 1
            else f"{_medium(entry).path}#{name}-{number}",
            dataset=dataset,
            media=(_medium(entry),),
            task=task,
            question=question,
            answer=answer,
            columns={
                **_others(entry, VITAL_KEYS),
                **({"opinions": dict(enumerate_names(entry["mos"]))} if "mos" in entry else {}),
            },
            **score,
        )


def enumerate_names(scores: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Names for scores that have none."""
    for number, score in enumerate(scores, 1):
        yield f"scorer-{number}", float(score)


def _vital_score(entry: Entry) -> dict[str, Any]:
    """Target, spread and levels of a scored item; nothing of another."""
    if "gt_score_norm" not in entry:
        return {}
    scale = from_share(1) - from_share(0)
    return {
        "target": from_share(float(entry["gt_score_norm"]) / VITAL_TOP),
        "spread": float(entry["std_norm"]) * scale / VITAL_TOP if "std_norm" in entry else None,
        "levels": _distribution(entry["target_dist"]) if "target_dist" in entry else None,
    }


def _distribution(values: Sequence[float]) -> tuple[float, ...]:
    """Published probabilities, whose sum may be off after clipping, as a distribution."""
    total = math.fsum(values)
    return tuple(float(value) / total for value in values)


def _benchmark(entry: Entry, name: str, dataset: str) -> Iterator[Sample]:
    """A question of Q-Bench-Video, with options or open; of two videos where the name joins two."""
    options = tuple(str(option).strip() for option in entry["answers"] if str(option).strip())
    is_open = entry["question_type"] == "open_ended"
    letter = str(entry["correct_choice"])
    correct = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= correct < len(options):
        raise ValueError(f"correct_choice is {letter!r}: there are {len(options)} answers")
    paths = str(entry["video"] if "video" in entry else entry["video_name"]).split("_cat_")
    yield Sample(
        id=name,
        dataset=dataset,
        media=tuple(Media(path, IMAGE if path.endswith(".png") else VIDEO) for path in paths),
        task="question",
        question=str(entry["question"]),
        answer=str(entry.get("correct_ans") or options[correct]),
        options=() if is_open else options,
        correct=None if is_open else correct,
        columns=_others(entry, BENCHMARK_KEYS),
    )
