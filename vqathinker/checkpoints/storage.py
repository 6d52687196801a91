"""Checkpoint folders: scanned for their tensors, written whole or not at all.

Knows nothing of models. What is in memory at any time is one shard at most.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vqathinker.checkpoints.folders import INDEX_FILE, open_to_others

REPORT_FILE = "conversion.json"
ROWS_AT_A_TIME = 4096
# in a checkpoint of ours
HEAD = "lm_head.weight"
EMBEDDINGS = "model.language_model.embed_tokens.weight"
SINGLE = "model.safetensors"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies and what it is; its data is read when asked for."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def part_shape(self, num_parts: int) -> tuple[int, ...] | None:
        """Shape of one of `num_parts` equal parts along the first dimension, None if it cannot be cut so."""
        if num_parts == 1:
            return self.shape
        if not self.shape or self.shape[0] % num_parts:
            return None
        return (self.shape[0] // num_parts, *self.shape[1:])

    def read(self, part: int = 0, num_parts: int = 1) -> Tensor:
        """The data of one of `num_parts` equal parts along the first dimension."""
        with safe_open(self.file, framework="pt") as shard:
            if num_parts == 1:
                return shard.get_tensor(self.name)  # type: ignore[no-any-return]
            length = self.shape[0] // num_parts
            return shard.get_slice(self.name)[part * length : (part + 1) * length]  # type: ignore[no-any-return]


def same_values(one: Stored, other: Stored) -> bool:
    """Whether two tensors are equal, read some rows at a time."""
    if one.shape != other.shape or not one.shape:
        return False
    with safe_open(one.file, framework="pt") as first, safe_open(other.file, framework="pt") as second:
        slices = first.get_slice(one.name), second.get_slice(other.name)
        return all(
            torch.equal(*(rows[start : start + ROWS_AT_A_TIME] for rows in slices))
            for start in range(0, one.shape[0], ROWS_AT_A_TIME)
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def scan(folder: Path) -> dict[str, Stored]:
    """All tensors of a checkpoint by name, without their data.

    Raises:
        ValueError: if there are no safetensors files, one is damaged or missing, or the index differs.
    """
    index = None
    if not (folder / SINGLE).is_file():
        if not (folder / INDEX_FILE).is_file():
            raise ValueError(
                f"{folder} has no {SINGLE} and no {INDEX_FILE}; pickled weights are not read, save them as "
                "safetensors"
            )
        index = read_json(folder / INDEX_FILE).get("weight_map", {})
    names = [SINGLE] if index is None else sorted(set(index.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of its {len(names)} shards such as {missing[0]}")
    found: dict[str, Stored] = {}
    for name in names:
        for stored in _scan_file(folder / name):
            if stored.name in found:
                raise ValueError(f"{stored.name} is in {found[stored.name].file.name} and in {name}")
            found[stored.name] = stored
    # an index of other shards would be found only by whoever loads the result
    held = {stored.name: stored.file.name for stored in found.values()}
    if index is not None and index != held:
        differing = sorted(index.items() ^ held.items())[0][0]
        raise ValueError(f"{folder / INDEX_FILE} and the shards disagree on {differing}")
    return found


def _scan_file(path: Path) -> list[Stored]:
    try:
        with safe_open(path, framework="pt") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118  no mapping
            types = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, fetch it again: {error}") from error
    for name, (_, dtype) in types.items():
        if dtype not in DTYPES:
            raise ValueError(f"{path}: {name} holds {dtype} values, quantised weights cannot be converted")
    return [Stored(path, name, shape, DTYPES[dtype]) for name, (shape, dtype) in types.items()]


def write(
    folder: Path,
    shards: Sequence[Callable[[], dict[str, Tensor]]],
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write one safetensors file for each function that returns tensors by name, one after the other.

    Args:
        folder: existing directory.
        shards: called in order; what one returned is let go before the next is called.
        on_shard: called after each shard with their numbers, done and in all.
    """
    places: dict[str, str] = {}
    size = 0
    for number, tensors_of in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = tensors_of()
        save_file(tensors, folder / file, {"format": "pt"})
        open_to_others([folder / file])
        places |= dict.fromkeys(tensors, file)
        size += sum(tensor.nbytes for tensor in tensors.values())
        del tensors
        on_shard(number, len(shards))
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        write_json(folder / INDEX_FILE, index)


def check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a directory with files, but for those of an earlier conversion if they may be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is not a directory")
    if out.is_mount():
        raise ValueError(f"{out} is a mount point, which cannot be replaced; choose a folder in it")
    present = {path.name for path in out.iterdir()}
    if present and not overwrite:
        raise ValueError(f"{out} is not empty; choose another directory or overwrite it (--overwrite)")
    ours = set(read_json(out / REPORT_FILE).get("files", [])) if REPORT_FILE in present else set()
    if present - ours:
        raise ValueError(
            f"{out} holds {min(present - ours)}, which no conversion wrote; choose another directory"
        )


@contextmanager
def appearing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A directory to fill that becomes `out` at the end, or vanishes if anything goes wrong."""
    temporary = out.with_name(f".{out.name}.partial")
    if temporary.exists():
        if not overwrite:
            raise ValueError(f"{temporary} is of an interrupted or a running conversion; remove it first")
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if out.exists():
            check_free(out, overwrite=overwrite)
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
