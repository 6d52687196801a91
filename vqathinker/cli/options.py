"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="Folder written by training or by `vqathinker init`.")]
LabelFile = Annotated[Path, typer.Argument(help="Label file: CSV, LSVQ CSV, FAST-VQA text or JSON.")]
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
    str | None, typer.Option("--format", help="csv, lsvq, fastvqa or json, if detection fails.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Videos answered at the same time.")]
Workers = Annotated[int, typer.Option(min=1, help="Videos read at the same time.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest response in tokens.")]
AnswerOnly = Annotated[
    bool, typer.Option("--answer-only", help="Also read responses without reasoning, an answer alone.")
]
