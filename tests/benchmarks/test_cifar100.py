"""CIFAR-100: the binary version is read byte by byte, and nothing is ever unpickled."""

from pathlib import Path

import numpy as np
import pytest
import tree

from petlbench import zoo
from petlbench.data.verify import verify
from petlbench.errors import InputError
from petlbench.framing import Framing

SUITE = zoo.suite("cifar100")()
TASK = SUITE.tasks[0]


def test_the_facts() -> None:
    assert (TASK.classes, TASK.train, TASK.val, TASK.test) == (100, 50_000, 5_000, 10_000)


def test_a_record_is_two_labels_and_three_planes(tmp_path: Path) -> None:
    folder = tree.cifar(tmp_path / "cifar-100-binary", train=200, test=100)
    records = np.fromfile(folder / "test.bin", np.uint8).reshape(100, 3074)
    images, labels = SUITE.data(TASK, "test", SUITE.prepare(TASK, tmp_path), Framing(32)).all()
    assert labels.tolist() == list(range(100))
    assert (images[7].numpy() == records[7, 2:].reshape(3, 32, 32)).all()


def test_the_last_tenth_of_the_training_images_is_set_aside(tmp_path: Path) -> None:
    data = tree.cifar(tmp_path / "cifar100", train=45_300, test=100)
    train, val, both = (SUITE.listing(TASK, split, data) for split in ("train800", "val200", "train800val200"))
    assert (len(train), len(val), len(both)) == (45_000, 300, 45_300)
    assert np.array_equal(np.asarray(val.image(3)), np.asarray(both.image(45_003)))
    assert val.item(3) == both.item(45_003)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    data = tree.cifar(tmp_path / "cifar100", train=100, test=100)
    (data / "train.bin").write_bytes((data / "train.bin").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"train\.bin: 307,399 bytes are no multiple of 3,074"):
        SUITE.listing(TASK, "train800val200", data)


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    data = tree.cifar(tmp_path / "cifar100", train=100, test=100)
    content = bytearray((data / "test.bin").read_bytes())
    content[1] = 100
    (data / "test.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"test\.bin: label 100 is outside 0\.\.99"):
        SUITE.listing(TASK, "test", data)


def test_one_folder_per_class_will_do(tmp_path: Path) -> None:
    tree.image_folder(tmp_path / "cifar100", {"train": 10, "test": 2}, classes=100)
    data = SUITE.prepare(TASK, tmp_path)
    sizes = [len(SUITE.listing(TASK, split, data)) for split in ("train800", "val200", "train800val200", "test")]
    assert sizes == [800, 200, 1000, 200]


@pytest.mark.slow
def test_the_whole_set_has_no_error(tmp_path: Path) -> None:
    tree.cifar(tmp_path / "cifar100")
    found = verify(SUITE, TASK, tmp_path)
    assert [finding.level for finding in found] == ["note", "note"]
    assert found[0].text == "lossless (60,000 raw)"
