"""Builds on two nodes of a Ray cluster write what one process writes, also when a node dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_video

from vqathinker.building.listing import list_media
from vqathinker.building.recipe import Recipe
from vqathinker.building.run import Build

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warn

STAGES = {
    "pool": {"stage": "select", "seconds": None, "smallest": None},
    "distorted": {"stage": "distort", "draw_from": ["white_noise", "pixelate", "darken"], "number": 2},
    "opinions": {"stage": "annotate", "from": "pool", "annotators": ["measures"]},
    "scores": {"stage": "level"},
    "recognition": {"stage": "build", "from": "distorted", "builder": "recognition"},
    "scoring": {"stage": "build", "from": "scores", "builder": "scoring"},
    "samples": {"stage": "mix", "parts": {"recognition": 2, "scoring": 1}},
}
# a process of its own: Ray's threads and workers end with it
PROGRAM = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from vqathinker.building.cluster import on_cluster
from vqathinker.building.listing import list_media
from vqathinker.building.recipe import Recipe
from vqathinker.building.run import Build

media, out, stages, kill = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3]), sys.argv[4] == "kill"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
second = cluster.add_node(num_cpus=1, object_store_memory=10**8)
run_parts = on_cluster(cluster.address)
recipe = Recipe.from_dict({"stages": stages})
build = Build.of(recipe, list_media(media, out), out, part_size=2, num_workers=1)

def end_node():
    while len(list((out / "stages" / "distorted").glob("part-*"))) < 2:
        time.sleep(0.1)
    cluster.remove_node(second, allow_graceful=False)
    print("a node is gone", flush=True)

if kill:
    threading.Thread(target=end_node, daemon=True).start()
build.run(run_parts=run_parts)
# in this order: a driver whose nodes end first ends with a code of its own
ray.shutdown()
cluster.shutdown()
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "media"
    folder.mkdir()
    for number in range(16):
        write_video(folder / f"{number:02d}.mp4", 8)
    return folder


@pytest.fixture(scope="module")
def alone(media: Path) -> dict[str, bytes]:
    out = media.parent / "alone"
    Build.of(Recipe.from_dict({"stages": STAGES}), list_media(media, out), out, part_size=2).run()
    return contents(out)


@pytest.mark.parametrize("how", ["whole", "kill"])
def test_two_nodes_write_what_one_process_writes(how: str, media: Path, alone: dict[str, bytes]) -> None:
    pytest.importorskip("ray")
    out = media.parent / how
    command = [sys.executable, "-c", PROGRAM, str(media), str(out), repr(STAGES), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ("a node is gone" in done.stdout) == (how == "kill")
    assert contents(out) == alone


ON_CLUSTER = """
import subprocess, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
cluster.add_node(num_cpus=1, object_store_memory=10**8)
sys.exit(subprocess.run([*sys.argv[1:], "--ray", cluster.address]).returncode)
"""


def test_an_evaluation_by_shards_on_two_nodes(tiny_checkpoint: Path, media: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos\n" + "".join(f"{n:02d}.mp4,{1 + n / 4}\n" for n in range(16)))
    given = [str(tiny_checkpoint), str(labels), "--videos", str(media), "--range", "1", "5"]
    command = [
        sys.executable,
        "-m",
        "vqathinker.cli",
        "evaluate",
        *given,
        "--max-new-tokens",
        "8",
        "--batch-size",
        "4",
    ]
    subprocess.run([*command, "--out", str(tmp_path / "alone")], check=False, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", ON_CLUSTER, *command, "--out", str(tmp_path / "shards"), "--num-shards", "3"],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = ((tmp_path / name / "predictions.csv").read_text() for name in ("alone", "shards"))
    assert one == other
    assert len(list((tmp_path / "shards").glob("journal-*-of-3.jsonl"))) == 3
