"""Label files as other projects publish them: read rightly, or refused by the names of their columns."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.data.dataset import load_labels
from vqathinker.data.labels import read

WIDE = (-1e9, 1e9)

# What the file holds; the names and MOS that it says.
READ: dict[str, tuple[str, list[str], list[float]]] = {
    # own form, and LSVQ's, in capitals
    "capitals": ("Video,MOS\na.mp4,3.2\n", ["a.mp4"], [3.2]),
    "upper case": ("VIDEO,MOS,FPS\na.mp4,3.2,30\n", ["a.mp4"], [3.2]),
    # VIDEVAL and RAPIQUE
    "LIVE-VQC": (
        "File,MOS,width,height,pixfmt,framerate,nb_frames,bitdepth,bitrate\n"
        "A001.mp4,80.232,1920,1080,yuvj420p,29.99,300,8,19924412\n",
        ["A001.mp4"],
        [80.232],
    ),
    "LIVE-HFR": (
        "Filename,MOS,width,height,pixfmt,framerate\n1Runner_crf_0_24fps,43.02,3840,2160,yuv420p10le,24\n",
        ["1Runner_crf_0_24fps"],
        [43.02],
    ),
    "KoNViD-1k": ("flickr_id,mos,width\n3339962845,4.64,960\n", ["3339962845"], [4.64]),
    "pandas index": (",File Names,MOS,SD\n0,a,61.2,9.5\n1,b,40,8\n", ["a", "b"], [61.2, 40]),
    # KonVid-150k A, KVQ, a set of the ITU's
    "K150k": ("video_name,video_score\norig_1_540_5s.mp4,3.4\n", ["orig_1_540_5s.mp4"], [3.4]),
    "KVQ": ("filename,score\ntrain/0001.mp4,2.5\n", ["train/0001.mp4"], [2.5]),
    "AVT": ("src,video_name,MOS,CI\nball,ball_200kbps.mp4,1.0,0.0\n", ["ball_200kbps.mp4"], [1.0]),
    # FAST-VQA, DOVER: measured, not measured, raw videos, whole MOS, one line
    "FAST-VQA": (
        "a.mp4, 8.008, 29.97002997, 3.22\nb.mp4, 8.0, 25.0, 3.24\n",
        ["a.mp4", "b.mp4"],
        [3.22, 3.24],
    ),
    "FAST-VQA, odd rates": (
        "a.mp4, 10.0, 30.0, 80.2\nb.mp4, 10.0, 29.917, 57\nc.mp4, 10.1, 29.97, 20\n",
        ["a.mp4", "b.mp4", "c.mp4"],
        [80.2, 57, 20],
    ),
    "FAST-VQA, whole": ("a.mp4, 8.0, 30.0, 3\nb.mp4, 8.0, 25.0, 4\n", ["a.mp4", "b.mp4"], [3, 4]),
    "FAST-VQA, unknown": (
        "pa/pa2.yuv, -1, -1, 44\nx, y/b.mp4, -1, -1, 5\n",
        ["pa/pa2.yuv", "x, y/b.mp4"],
        [44, 5],
    ),
    # no header, two fields; other separators; quotes
    "two fields": ("a.mp4,3.2\nb.mp4,4\n", ["a.mp4", "b.mp4"], [3.2, 4]),
    "score first": ("3.2,a.mp4\n4,b.mp4\n", ["a.mp4", "b.mp4"], [3.2, 4]),
    "no suffix": ("yfcc-batch1/722,78.7\n", ["yfcc-batch1/722"], [78.7]),
    "blanks": ("my clip.mp4 3.2\nb.mp4  4\n", ["my clip.mp4", "b.mp4"], [3.2, 4]),
    "tabs": ("Video\tMOS\na, b.mp4\t3.2\n", ["a, b.mp4"], [3.2]),
    "tabs, no header": ("a.mp4\t3.2\n", ["a.mp4"], [3.2]),
    "semicolons": ("file;score\na.mp4;3.2\n", ["a.mp4"], [3.2]),
    "semicolon in a name": ("a;1.mp4,3.2\nb;2.mp4,4\n", ["a;1.mp4", "b;2.mp4"], [3.2, 4]),
    "quotes": ('"File","MOS"\n"a, b.mp4","3.2"\n', ["a, b.mp4"], [3.2]),
    # an unknown name of the column of the videos: their suffix tells
    "unknown header": ("Datei,MOS\na.mkv,3.2\n", ["a.mkv"], [3.2]),
    "two names": ("id,name,path,mos\n1,first,v/a.mp4,3\n", ["v/a.mp4"], [3]),
    # Q-Align, FineVQ and other JSON
    "Q-Align": ('[{"img_path": "3339962845.mp4", "gt_score": 4.64}]', ["3339962845.mp4"], [4.64]),
    "FineVQ": (
        '{"video": "a.mp4", "mos": 3.2}\n\n{"video": "b.mp4", "mos": 2.1}\n',
        ["a.mp4", "b.mp4"],
        [3.2, 2.1],
    ),
    "one line": ('{"video": "a.mp4", "score": 3.2}\n', ["a.mp4"], [3.2]),
    "JSON in capitals": ('[{"Video": "a.mp4", "MOS": "3.2"}]', ["a.mp4"], [3.2]),
    "list inside": ('{"name": "set", "data": [{"video": "a.mp4", "score": 3.2}]}', ["a.mp4"], [3.2]),
    "names as keys": ('{"a.mp4": 3.2, "b.mp4": 4}', ["a.mp4", "b.mp4"], [3.2, 4]),
    "names as keys, more": ('{"a.mp4": {"mos": 3.2, "std": 0.5}}', ["a.mp4"], [3.2]),
}  # fmt: skip

# What cannot be told; the error names the columns and the option.
REFUSED: dict[str, tuple[str, str]] = {
    "name, MOS, std, votes": (
        "clip1.mp4,3.20,0.61,4\nclip2.mp4,2.10,0.50,5\n",
        r"line 1 is no header: column 2 \(3.20\), column 3 \(0.61\) and column 4 \(4\) could be the MOS; "
        r"say which is: --mos-column",
    ),
    "two numbers behind blanks": (
        "my 2 clip.mp4 3.2 0.5\nb.mp4  4 .25\n",
        r"line 1 is no header: column 2 \(3.2\) and column 3 \(0.5\) could be the MOS",
    ),
    "votes that look like frame rates": (
        "a.mp4,65,15,30\nb.mp4,40,12,24\n",
        r"column 2 \(65\), column 3 \(15\) and column 4 \(30\) could be the MOS",
    ),
    "0 to 100 with spread and votes": (
        "a.mp4,65.2,14.3,32\n",
        "could be the MOS; say which is: --mos-column",
    ),
    "MaxWell's three scores": (
        "0000.mp4, 1.114, 1.057, 1.028\n0012.mp4, 1.538, 1.423, 1.384\n",
        r"column 2 \(1.114\), column 3 \(1.057\) and column 4 \(1.028\) could be the MOS",
    ),
    "MaxWell's axes": (
        "O,A-1,T-1\n1.02,-0.9,-0.8\n",
        "line 1: no column names the videos among O, A-1, T-1; say which",
    ),
    "name, MOS, std": ("a.mp4,3.2,0.5\n", r"column 2 \(3.2\) and column 3 \(0.5\) could be the MOS"),
    "KoNViD, numbers alone": ("3339962845,4.64,1\n", "no column names the videos among column 1"),
    "K150k B": (
        "video_name,mos,video_score\na.mp4,3.4,3.5\n",
        r"line 1: mos and video_score could be the MOS; say which is: --mos-column \(mos_column\)",
    ),
    "but for capitals": ("File,MOS,Mos\na.mp4,3,4\n", "MOS and Mos could be the MOS"),
    "JSON with two": ('[{"video": "a.mp4", "score": 3, "rating": 4}]', "score and rating could be the MOS"),
    "two videos": (
        "file,filename,MOS\na.mp4,b.mp4,3\n",
        "file and filename could name the videos; .*--video-column",
    ),
    "unknown MOS": (
        "File,width,framerate\nA1.mp4,1920,29.99\n",
        "line 1: no column is a MOS by its name among File, width, framerate; say which is: --mos-column",
    ),
    "DMOS": (
        ",File Names,DMOS\n0,a,25.6\n",
        'DMOS is a difference, where lower is better, and no MOS is among "", File Names, DMOS; turn',
    ),
    "conversations": (
        '[{"image": "m/1.mp4", "id": "1.mp4->1.05", "conversations": [{"from": "human"}]}]',
        "entry 1: 1 turns: expected a question and an answer each",
    ),
    "decimal commas": ("a.mp4,3,2\nb.mp4,4,1\n", r"column 2 \(3\) and column 3 \(2\) could be the MOS"),
    "list of votes": (
        '[{"video": "a.mp4", "mos": [3, 4]}]',
        r"entry 1: a.mp4: the MOS '\[3, 4\]' is not a number",
    ),
    "an entry without": (
        '[{"video": "a.mp4", "mos": 3}, {"video": "b.mp4"}]',
        r"entry 2: b.mp4: the MOS is blank \(1 of 2 are\)",
    ),
    "two columns but for capitals": ("video,mos,Split,split\na.mp4,3,x,y\n", "columns are called split"),
}  # fmt: skip


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("form", READ)
def test_read(form: str, tmp_path: Path) -> None:
    text, names, mos = READ[form]
    rows = load_labels(write(tmp_path, text), mos_range=WIDE)
    assert rows["video_id"][:] == names
    assert rows["mos"][:] == mos


@pytest.mark.parametrize("form", REFUSED)
def test_refused(form: str, tmp_path: Path) -> None:
    text, message = REFUSED[form]
    with pytest.raises(ValueError, match=message) as caught:
        load_labels(write(tmp_path, text), mos_range=WIDE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns", "names", "mos"),
    [
        ("1.mp4,3.20,0.61,4\n2.mp4,2.10,0.50,5\n", {"mos_column": "2"}, ["1.mp4", "2.mp4"], [3.2, 2.1]),
        ("0000.mp4, 1.114, 1.057, 1.028\n", {"mos_column": "4"}, ["0000.mp4"], [1.028]),
        ("3339962845,4.64,1\n", {"video_column": "1", "mos_column": "2"}, ["3339962845"], [4.64]),
        ("video_name,mos,video_score\na.mp4,3.4,3.5\n", {"mos_column": "video_score"}, ["a.mp4"], [3.5]),
        ("video_name,mos,video_score\na.mp4,3.4,3.5\n", {"mos_column": "MOS"}, ["a.mp4"], [3.4]),
        ("A,B\na.mp4,3\n", {"mos_column": "b"}, ["a.mp4"], [3]),
        ("file,filename,MOS\na.mp4,b.mp4,3\n", {"video_column": "filename"}, ["b.mp4"], [3]),
        ('[{"u": "a", "v": 3, "w": 4}]', {"video_column": "u", "mos_column": "w"}, ["a"], [4]),
        # the form that would be detected does not stand in the way
        ("a.mp4,-1,-1,3\n", {"mos_column": "4"}, ["a.mp4"], [3]),
        ("video,mos,score\na.mp4,3,4\n", {}, ["a.mp4"], [3]),  # the documented form
        ("video,mos,score\na.mp4,3,4\n", {"mos_column": "score"}, ["a.mp4"], [4]),
    ],
)  # fmt: skip
def test_columns_can_be_named(
    text: str, columns: dict[str, str], names: list[str], mos: list[float], tmp_path: Path
) -> None:
    rows = load_labels(write(tmp_path, text), mos_range=WIDE, **columns)  # type: ignore[arg-type]
    assert rows["video_id"][:] == names
    assert rows["mos"][:] == mos


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"mos_column": "quality"}, "line 1: mos_column 'quality' is none of video, mos, x"),
        ({"mos_column": "4"}, "mos_column '4' is none of"),
        ({"mos_column": "0"}, "mos_column '0' is none of"),
        ({"video_column": "mos", "mos_column": "2"}, "'mos' cannot be both the video and its MOS"),
        ({"mos_column": "x"}, "line 2: a.mp4: the MOS 'good' is not a number"),
        ({"mos_column": "2", "label_format": "fastvqa"}, "the columns of format fastvqa are fixed"),
    ],
)
def test_columns_that_are_not_there(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_labels(write(tmp_path, "video,mos,x\na.mp4,3,good\n"), **columns)


def test_the_other_column_called_mos_is_kept_under_another_name(tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, "video,mos,score\na.mp4,3,4\n"), mos_column="score")
    assert rows[0]["mos"] == 4
    assert rows[0]["mos_in_file"] == "3"


def test_differences_can_be_taken_but_not_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "file,DMOS\na.mp4,25.6\n")
    with caplog.at_level(logging.WARNING):
        assert load_labels(path, mos_column="DMOS")["mos"][:] == [25.6]
    assert "DMOS is taken as a MOS, higher is better" in caplog.text


@pytest.mark.parametrize("name", ["std", "SD", "MOS_std", "mos std"])
def test_the_spread_is_a_number(name: str, tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, f"video,mos,{name},votes\na.mp4,3,0.5,8\nb.mp4,4,,9\n"))
    assert rows["std"][0] == 0.5
    assert math.isnan(rows["std"][1])
    assert rows["votes"][:] == ["8", "9"]
    words = load_labels(write(tmp_path, f"video,mos,{name}\na.mp4,3,wide\n"))
    assert words[name][:] == ["wide"]


def test_columns_with_a_meaning_keep_it_in_capitals(tmp_path: Path) -> None:
    text = "Video,MOS,Split,Dataset\na.mp4,3,Train,one\nb.mp4,4,TEST,two\n"
    rows = load_labels(write(tmp_path, text), split="test")
    assert rows["prompt"][:] == ["two/b.mp4"]
    assert rows["split"][:] == ["TEST"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32"]
)
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "Video\tMOS\nKäse.mp4\t3.2\n"
    mark = "\ufeff" if encoding.endswith("-mark") else ""
    rows = load_labels(write(tmp_path, mark + text, encoding.removesuffix("-mark")))
    assert rows["video_id"][:] == ["Käse.mp4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video,mos\na.mp4,3\n".encode("utf-16-le"), "zero bytes in the text: is it UTF-16 without a byte"),
        ("video,mos\nKäse.mp4,3\n".encode("latin-1"), "no UTF-8 text from byte 11 on; wrong file, or save"),
        (b"PK\x03\x04rest", "this is a zip archive or an Excel sheet; export its table as CSV"),
        (b"MATLAB 5.0 MAT-file", "this is a MATLAB file"),
    ],
)  # fmt: skip
def test_other_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"labels: {message}"):
        load_labels(path)


def votes() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 100), min_size=2, max_size=40)


@given(st.lists(votes(), min_size=1, max_size=5), st.booleans())
def test_mean_spread_and_votes_are_never_taken_for_fastvqa(sets: list[list[int]], rounded: bool) -> None:
    """Whatever the votes were: nobody gets their number as the MOS."""

    def lines() -> Iterator[str]:
        for i, given_votes in enumerate(sets):
            number = len(given_votes)
            mean = sum(given_votes) / number
            spread = math.sqrt(sum((vote - mean) ** 2 for vote in given_votes) / (number - 1))
            digits = 0 if rounded else 6
            yield f"{i}.mp4,{mean:.{digits}f},{spread:.{digits}f},{number}"

    with pytest.raises(ValueError, match="could be the MOS"):
        read("\n".join(lines()))


def test_the_published_forms_in_json_keep_their_other_keys(tmp_path: Path) -> None:
    entries = [{"img_path": "a.mp4", "gt_score": 3.5, "level": "good", "votes": [3, 4]}]
    rows = load_labels(write(tmp_path, json.dumps(entries)))
    assert rows[0]["level"] == "good"
    assert json.loads(rows[0]["votes"]) == [3, 4]


def test_signs_that_end_a_line_elsewhere_do_not_cut_json() -> None:
    labels = read(
        '{"video": "a.mp4", "mos": 3, "note": "one\u2028two\u0085three"}\r\n{"video": "b.mp4", "mos": 4}'
    )
    assert labels.names == ["a.mp4", "b.mp4"]
    assert labels.columns["note"][0] == "one\u2028two\u0085three"
