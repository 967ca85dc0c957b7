"""Every method of the zoo trains a segmenter from plan to record, on a ViT and, where it says so, on a Swin."""

from collections.abc import Callable
from pathlib import Path

import pytest

from petlbench import spec, worker, zoo
from petlbench.drawing import annotated
from petlbench.errors import InputError
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request

VIT = "mini(depth=4, embed_dim=32)"
SWIN = "swin_tiny_patch4_window7_224(embed_dim=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4))"
SHORT = {
    "e2vpt": "e2vpt(prune_tokens=(0.5,), prune_segments=(4,))",
    "noah": "noah(supernet_epochs=2, population=2, parents=1, crossovers=1, mutations=1, generations=2)",
}
"""Searches, cut down to their phases."""
STEPS = {"heat": 2 + 3, "e2vpt": 3 + 3 + 3, "noah": 2 * 3 + 3}
"""Steps over all phases where there are several: epochs of NOAH's supernet are of 7 images, 2 a step."""

Train = Callable[..., Record]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mini-ade20k"
    annotated.make("mini-ade20k", folder, {"train": 8, "val": 1})
    return folder


@pytest.fixture
def train(tree: Path, tmp_path: Path) -> Train:
    """Train a method for three steps, on a task and a backbone, and score it."""

    def train(method: str, task: str = "semantic_fpn", backbone: str = VIT) -> Record:
        (planned,) = plan(
            Request(
                methods=spec.parse(method),
                suite="mini-ade20k",
                tasks=(task,),
                backbone=backbone,
                weights="random",
                data_root=tree,
                results=tmp_path,
                overrides={"steps": 3, "batch_size": 2},
            )
        )
        return worker.work(planned.job)

    return train


@pytest.mark.parametrize("name", zoo.methods())
def test_a_method_trains_a_segmenter_and_is_scored_and_counted(name: str, train: Train) -> None:
    record = train(SHORT.get(name, name))
    assert record.status == "done", record.reason
    assert 0 <= record.scores["miou"] <= 100
    assert len(record.curve) == STEPS.get(name, 3)
    assert record.counts
    assert record.counts.head_parameters > 0
    assert (record.counts.method_parameters > 0) == (name != "linear")


@pytest.mark.parametrize("name", ["linear", "hst", "res_tuning_bypass"])
def test_upernet_reads_the_maps_of_a_plain_vit_and_those_of_a_side_network(name: str, train: Train) -> None:
    record = train(name, task="upernet")
    assert record.status == "done", record.reason
    assert set(record.curve[0].parts) == {"segmentation", "auxiliary"}


@pytest.mark.parametrize("name", ["dora", "ia3"])
def test_a_method_of_the_peft_library_trains_a_segmenter(name: str, train: Train) -> None:
    pytest.importorskip("peft")
    assert train(f"peft:{name}").status == "done"


@pytest.mark.parametrize("name", ["linear", "lora", "vpt", "partial"])
def test_a_swin_brings_its_own_strides(name: str, train: Train) -> None:
    record = train(name, backbone=SWIN)
    assert record.status == "done", record.reason


def test_a_method_that_no_swin_takes_is_refused_before_anything_is_trained(train: Train) -> None:
    with pytest.raises(InputError, match=r"^method hst cannot be built into backbone swin_tiny.*it supports: ViT$"):
        train("hst", backbone=SWIN)
