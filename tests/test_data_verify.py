"""`petlbench data verify`: whole data pass, and each kind of damage is named in these words."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from petlbench import cli, folder, zoo
from petlbench.data.verify import verify

TINY = str(Path(__file__).parent / "tiny.py")
SUITE = zoo.suite(TINY)()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "data", ("day",))


def said(root: Path, level: str = "error") -> list[str]:
    return [finding.text for finding in verify(SUITE, SUITE.task("day"), root) if finding.level == level]


def test_whole_data_have_no_error_and_get_their_fingerprint(root: Path) -> None:
    assert said(root) == []
    kept = json.loads((root / "day/fingerprint.json").read_text())
    (root / "day/fingerprint.json").unlink()
    assert kept == folder.digests(root / "day", lambda split: folder.read_list(root / "day", split, 2))


def test_whole_data_are_described(root: Path) -> None:
    kind, mark = said(root, "note")
    assert kind == "lossless (48 PNG)"
    assert (
        mark == f"fingerprint {folder.fingerprint(root / 'day', lambda split: folder.read_list(root, split, 2))[:12]}"
    )


def _list(split: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def damage(day: Path) -> None:
        file = day / f"{split}.txt"
        file.write_text("\n".join(change(file.read_text().splitlines())))

    return damage


def _image(name: str, content: bytes | None) -> Callable[[Path], None]:
    def damage(day: Path) -> None:
        path = day / "images" / name
        path.write_bytes(path.read_bytes()[:60] if content is None else content)

    return damage


def _gone(name: str) -> Callable[[Path], None]:
    return lambda day: (day / name).unlink()


def _copied(source: str, *targets: str) -> Callable[[Path], None]:
    def damage(day: Path) -> None:
        for target in targets:
            (day / "images" / target).write_bytes((day / "images" / source).read_bytes())

    return damage


def _all_lists(change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(day: Path) -> None:
        for split in folder.SPLITS:
            _list(split, lambda lines: [change(line) for line in lines])(day)

    return damage


def _no_folder(day: Path) -> None:
    day.rename(day.with_name("elsewhere"))


def _another_pixel_under_the_fingerprint(day: Path) -> None:
    folder.digests(day, lambda split: folder.read_list(day, split, 2))
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(day / "images/test/000003.png")


def _foreign_training_image(day: Path) -> None:
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(day / "images/foreign.png")
    _list("train800val200", lambda lines: ["images/foreign.png 0", *lines[1:]])(day)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            _gone("test.txt"),
            [
                "test.txt: no such list; a task's folder holds train800.txt, val200.txt, train800val200.txt, test.txt",
            ],
        ),
        (_gone("images/test/000002.png"), [
            "test.txt:3: names images/test/000002.png, which does not exist",
            "test.txt: 15 images, expected 16",
        ]),
        (_list("test", lambda lines: lines[:-2]), ["test.txt: 14 images, expected 16"]),
        (_list("train800", lambda lines: lines[:-1]), [
            "train800.txt: 23 images, expected 24",
            "1 images of train800val200 are neither in train800 nor in val200",
        ]),
        (_list("test", lambda lines: ["images/test/000000.png 2", *lines[1:]]), [
            "test.txt:1: label 2 is outside 0..1",
            "test.txt: 15 images, expected 16",
        ]),
        (_list("test", lambda lines: ["what is this", *lines[1:]]), [
            "test.txt:1: expected 'path label', found 'what is this'",
            "test.txt: 15 images, expected 16",
        ]),
        (_list("val200", lambda lines: ["../../etc/passwd 1", *lines[1:]]), [
            "val200.txt:1: ../../etc/passwd leaves the folder of the task",
            "val200.txt: 7 images, expected 8",
            "1 images of train800val200 are neither in train800 nor in val200",
        ]),
        (_list("test", lambda lines: [lines[1], *lines[1:]]), [
            "test.txt: names images/test/000001.png more than once",
        ]),
        (_all_lists(lambda line: line[:-1] + "0"), []),  # class 1 is neither trained on nor tested: only a note
        (_list("train800val200", lambda lines: [line[:-1] + "0" for line in lines]), [
            "train800val200.txt: no image of class 1",
        ]),
        (_image("test/000005.png", None), [
            "images/test/000005.png: not a readable image: image file is truncated",
        ]),
        (_image("val200/000001.png", b"<html>404</html>"), [
            "images/val200/000001.png: not a readable image: cannot identify image file",
        ]),
        (_image("train800/000001.png", b""), [
            "images/train800/000001.png: not a readable image: cannot identify image file",
        ]),
        (_copied("train800/000000.png", "test/000000.png", "test/000002.png"), [
            "2 of 16 images of test have the pixels of an image of train800val200",
        ]),
        (_copied("train800/000000.png", "val200/000000.png"), [
            "1 of 8 images of val200 have the pixels of an image of train800",
        ]),
        (_foreign_training_image, ["1 images of train800val200 are neither in train800 nor in val200"]),
        (_another_pixel_under_the_fingerprint, [
            "fingerprint.json: was taken of other images; delete it if the change was meant",
        ]),
        (lambda day: (day / "fingerprint.json").write_text("{"), [
            "fingerprint.json: cannot be read (Expecting property name",
        ]),
    ],
)  # fmt: skip
def test_each_damage_is_named(root: Path, damage: Callable[[Path], None], words: list[str]) -> None:
    damage(root / "day")
    found = said(root)
    assert len(found) == len(words), found
    for text, expected in zip(found, words, strict=True):
        assert text.startswith(expected)


def test_a_missing_folder_says_which_names_are_looked_for(root: Path) -> None:
    _no_folder(root / "day")
    (text,) = said(root)
    assert text == f"--data-root {root}: has no folder day or day_folder for task day of suite tiny"


def test_many_findings_of_a_kind_are_counted(root: Path) -> None:
    for image in (root / "day/images/test").iterdir():
        image.unlink()
    found = said(root)
    assert found[4] == "test.txt:5: names images/test/000004.png, which does not exist"
    assert found[5:] == ["and 11 more like the last"]


def test_a_damaged_task_gets_no_fingerprint(root: Path) -> None:
    _gone("images/test/000002.png")(root / "day")
    assert said(root) != []
    assert not (root / "day/fingerprint.json").exists()


def test_jpeg_is_told_from_lossless_by_content_and_not_by_name(root: Path) -> None:
    for image in (root / "day/images").rglob("*.png"):
        Image.open(image).copy().save(image, format="JPEG")
    assert said(root, "note")[0] == "lossy JPEG export (48 JPEG)"
    Image.new("RGB", (8, 8)).save(root / "day/images/test/000000.png")
    assert said(root, "note")[0] == "mixed lossy and lossless (47 JPEG, 1 PNG)"


def test_mixed_modes_and_sizes_are_noted(root: Path) -> None:
    Image.new("L", (5, 30), 9).save(root / "day/images/test/000000.png")
    assert said(root, "note")[1:3] == [
        "modes 47 RGB, 1 L; all become RGB",
        "2 sizes, 5 to 8 wide and 8 to 30 high; all are squashed to a square",
    ]


def test_few_equal_pixels_are_a_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from petlbench.data import verify as module

    monkeypatch.setattr(module, "LEAK", 0.2)
    _copied("train800/000000.png", "test/000000.png")(root / "day")
    assert said(root) == []
    assert "1 of 16 images of test have the pixels of an image of train800val200" in said(root, "note")


def test_the_command_prints_a_line_per_finding_and_ends_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "night").mkdir()
    assert cli.main(["data", "verify", TINY, "--data-root", str(root), "--tasks", "day"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 tasks without an error"
    _gone("test.txt")(root / "day")
    assert cli.main(["data", "verify", TINY, "--data-root", str(root), "--tasks", "day"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error  day: test.txt: no such list")
    assert lines[-1] == "0 of 1 tasks without an error, 1 errors"


def test_the_list_shows_sizes_and_what_is_found(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list", TINY, "--data-root", str(root)]) == 0
    day, night = capsys.readouterr().out.splitlines()[1:3]
    assert day.split()[:7] == ["tiny", "day", "natural", "2", "32", "8", "16"]
    assert night.split()[-1] == "missing"
    assert cli.main(["data", "list"]) == 0
    assert "73,728" in capsys.readouterr().out
