"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="Folder written by training or by `vqathinker init`.")]
LabelFile = Annotated[
    Path, typer.Argument(help="Label file: CSV, LSVQ CSV, FAST-VQA text, JSON or JSON Lines.")
]
VideoFolder = Annotated[Path, typer.Option(help="Folder that the names in the label file start from.")]
DatasetName = Annotated[str | None, typer.Option(help="Name of the data set.")]
NativeRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--range", help="Lowest and highest possible MOS; 0 100 unless the file says.", metavar="LOW HIGH"
    ),
]
Scale = Annotated[str, typer.Option(help="Native range to 1-5: divide, clip or affine.")]
Split = Annotated[str | None, typer.Option(help="Only this split, such as train.")]
LabelFormat = Annotated[
    str | None, typer.Option("--format", help="csv, lsvq, fastvqa, json or jsonl, if detection fails.")
]
VideoColumn = Annotated[
    str | None,
    typer.Option(help="Column that names the videos, or its number from 1; found if omitted."),
]
MosColumn = Annotated[str | None, typer.Option(help="Column of the MOS, likewise.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Videos answered at the same time.")]
Workers = Annotated[int, typer.Option(min=1, help="Videos read at the same time.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest response in tokens.")]
AnswerOnly = Annotated[
    bool, typer.Option("--answer-only", help="Also read responses without reasoning, an answer alone.")
]
Engine = Annotated[str, typer.Option(help="hf or vllm.")]
Device = Annotated[str | None, typer.Option(help="cuda:1, cpu, ...; a GPU if there is one.")]
Precision = Annotated[
    str,
    typer.Option("--dtype", help="Precision; auto is the checkpoint's, faster but not batch-invariant."),
]
TimeLimit = Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds to read a file.")]
Samples = Annotated[int, typer.Option(min=1, help="Sampled responses per video; 1 is greedy.")]
Combine = Annotated[str, typer.Option(help="What samples become: mean, median, trimmed or confidence.")]
Expected = Annotated[
    bool, typer.Option("--expected", help="Expected value over the digits of the greedy answer.")
]
Levels = Annotated[bool, typer.Option("--levels", help="Expected level from excellent to bad, on 1-5.")]
