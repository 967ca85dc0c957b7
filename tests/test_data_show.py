"""`petlbench data show`: a picture with the images of every class."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import tree
from PIL import Image

from petlbench import cli, folder, layouts
from petlbench.data import show
from petlbench.framing import Framing

TINY = str(Path(__file__).parent / "tiny.py")


def test_every_class_comes_before_any_class_comes_twice() -> None:
    assert show.choose((0, 0, 0, 1, 1, 2), 3) == [0, 3, 5]
    assert show.choose((0, 0, 0, 1, 1, 2), 5) == [0, 1, 3, 4, 5]
    assert show.choose((1, 0), 9) == [1, 0]


def test_images_stand_in_rows_of_ten_with_a_caption(tmp_path: Path) -> None:
    data = tiny.write(tmp_path, ("day",)) / "day"
    listing = folder.read_list(data, "train800", 2)
    page = show.sheet(listing, 12)
    assert page.size == (960, 2 * (96 + 16))
    first = folder.decode(listing, show.choose(listing.labels, 12)[0], Framing(96))[1]
    assert (np.asarray(page)[:96, :96] == first).all()
    assert np.asarray(page)[96:112, :96].min() < 128  # something is written there


def test_captions_are_names_where_there_are_names(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path / "photos", {"train": 2, "test": 1})
    assert show.class_names(data, 3) == layouts.class_names(data) == ["class 0", "class 1", "class 2"]
    assert show.class_names(tiny.write(tmp_path, ("day",)) / "day", 2) is None
    listing = layouts.read(data, "test", 3)
    assert show.sheet(listing, 3).tobytes() != show.sheet(listing, 3, ["a", "b", "a very long name indeed"]).tobytes()


def test_the_command_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny.write(tmp_path / "data", ("day",))
    out = tmp_path / "day.png"
    assert cli.main(["data", "show", TINY, "day", "--data-root", str(root), "--out", str(out), "--images", "6"]) == 0
    assert capsys.readouterr().out == f"wrote {out}: 6 of 32 images of train800val200\n"
    with Image.open(out) as image:
        assert image.size == (576, 112)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "day.pdf2"], "--out day.pdf2: expected a name that ends in .png or .jpg"),
        (["--out", "day.png", "--images", "0"], "--images 0: expected at least 1"),
        (["--out", "day.png", "--split", "all"], "unknown split 'all'"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    root = tiny.write(tmp_path / "data", ("day",))
    assert cli.main(["data", "show", TINY, "day", "--data-root", str(root), *arguments]) == 2
    assert said in capsys.readouterr().err
