"""`petlbench bench data`: both ways read the same pixels, and the ratio is that of the printed rates."""

import re
from pathlib import Path

import pytest
import torch

from petlbench import cli
from petlbench.data import bench
from petlbench.folder import Images
from petlbench.framing import Framing


def test_both_ways_read_the_same_pixels(tmp_path: Path) -> None:
    listing = bench.write(tmp_path, images=5, size=40)
    images, labels = Images(listing, Framing(24)).all()
    for index, (image, label) in enumerate(bench._Files(listing, 24)[i] for i in range(5)):
        assert torch.equal(image, images[index])
        assert label == labels[index]


def test_the_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        bench.write(tmp_path / name, images=2, size=16)
    assert (tmp_path / "a/000001.png").read_bytes() == (tmp_path / "b/000001.png").read_bytes()


def test_the_command_prints_rates_and_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--images", "20", "--source", "32", "--size", "16", "--workers", "0", "--repeats", "1"]
    assert cli.main(["bench", "data", *arguments]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("20 PNG files of 32 x 32 to 16 x 16, median of 1, on ")
    found = [re.search(r"([\d,]+) images/s  x ([\d.]+)$", row) for row in rows]
    rates = [(float(each[1].replace(",", "")), float(each[2])) for each in found if each]
    assert len(rates) == 4
    assert rates[0][1] == 1.0
    for rate, ratio in rates:
        assert ratio == pytest.approx(rate / rates[0][0], rel=0.05)


@pytest.mark.parametrize("option", ["--images", "--repeats", "--size"])
def test_mistakes_are_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "data", option, "0"]) == 2
    assert f"{option} 0: expected at least 1" in capsys.readouterr().err
