"""Reading data in the format of COCO 2017: what networks see, and what is said of data that contradict themselves."""

import json

import numpy as np
import pytest
import torch
from coco_tree import annotation, contents, write
from faster_coco_eval import mask as rle
from PIL import Image

from petlbench.dense.coco import read
from petlbench.errors import InputError


@pytest.fixture
def data():
    return contents()


def test_labels_count_from_1_in_the_order_of_ids_whatever_their_gaps_and_order(tmp_path, data):
    split = read(*write(tmp_path, data), classes=3, training=False)
    assert split.categories == (1, 18, 44)
    assert split.names == ("person", "dog", "bottle")
    assert split.target(0)["labels"].tolist() == [1, 2]
    assert split.target(1)["labels"].tolist() == [3, 1]


def test_a_target_has_corners_and_one_mask_per_object(tmp_path, data):
    target = read(*write(tmp_path, data), classes=3, training=False).target(0)
    assert target["image_id"] == 9
    assert target["boxes"].tolist() == [[4, 6, 24, 36], [30, 10, 40, 20]]
    assert target["masks"].shape == (2, 40, 48)
    assert target["masks"].dtype == torch.uint8
    wanted = torch.zeros(40, 48, dtype=torch.uint8)
    wanted[6:36, 4:24] = 1
    assert torch.equal(target["masks"][0], wanted)


def test_polygons_and_both_kinds_of_run_length_codes_give_the_same_mask(tmp_path, data):
    pixels = np.zeros((40, 48), dtype=np.uint8, order="F")
    pixels[10:20, 30:40] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[-1], pixels.ravel("F"), [-1]]))))
    compressed = rle.encode(pixels)["counts"].decode()
    box = (30, 10, 10, 10)
    data["annotations"] = [
        annotation(1, 9, 1, box),
        annotation(2, 9, 1, box, segmentation={"size": [40, 48], "counts": runs.tolist()}),
        annotation(3, 9, 1, box, segmentation={"size": [40, 48], "counts": compressed}),
        annotation(4, 9, 1, box, segmentation=[[30, 10, 35, 10, 35, 20, 30, 20], [35, 10, 40, 10, 40, 20, 35, 20]]),
    ]
    masks = read(*write(tmp_path, data), classes=3, training=False).target(0)["masks"]
    assert all(torch.equal(mask, torch.from_numpy(pixels.copy())) for mask in masks)


def test_evaluation_sees_crowds_and_images_without_objects(tmp_path, data):
    split = read(*write(tmp_path, data), classes=3, training=False)
    assert len(split) == 3
    assert split.target(1)["masks"][1].sum() == 400
    empty = split.target(2)
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 40, 48)
    assert empty["labels"].dtype == torch.int64
    assert split.left_out == {}


def test_training_does_without_what_it_cannot_use_and_counts_it(tmp_path, data):
    data["images"].append({"id": 300, "file_name": "small.jpg", "height": 40, "width": 31})
    data["annotations"] += [
        annotation(10, 9, 1, (5, 5, 0.5, 10)),
        annotation(11, 9, 1, (5, 5, 10, 10), area=0),
        annotation(12, 9, 1, (60, 5, 10, 10)),
        annotation(13, 9, 1, (5, 5, 10, 10), segmentation=[[5, 5, 15, 15]]),
        annotation(14, 300, 1, (5, 5, 10, 10)),
    ]
    split = read(*write(tmp_path, data), classes=3, training=True)
    assert [photo.id for photo in split.photos] == [9, 139]
    assert [len(split.target(index)["boxes"]) for index in range(2)] == [2, 1]
    assert split.left_out == {
        "crowds": 1,
        "objects without area": 2,
        "objects outside of their image": 1,
        "objects without an outline": 1,
        "images without objects": 1,
        "images too small": 1,
    }


def test_a_box_that_reaches_out_of_its_image_is_cut_at_the_border(tmp_path, data):
    data["annotations"] = [annotation(1, 9, 1, (-5, 30, 20, 30))]
    split = read(*write(tmp_path, data), classes=3, training=True)
    assert split.target(0)["boxes"].tolist() == [[0, 30, 15, 40]]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_grey_and_cmyk_images_become_rgb(tmp_path, data, mode):
    file, folder = write(tmp_path, data)
    Image.new(mode, (48, 40)).save(folder / "000000000009.jpg")
    assert read(file, folder, classes=3, training=False).image(0).mode == "RGB"


def error(file, folder, classes=3):
    with pytest.raises(InputError) as caught:
        read(file, folder, classes, training=True)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith((str(file), str(folder)))
    return str(caught.value).removeprefix(str(file)).removeprefix(str(folder)).removeprefix(": ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 12}, "annotation 7: is of category 12; the categories are 1, 18, 44"),
        ({"image_id": 77}, "annotation 7: is of image 77, which is not in the list of images"),
        ({"id": 1}, "the id 1 stands for more than one annotation"),
        ({"id": 0}, "annotation 0: ids start at 1, since evaluation takes 0 for no object at all"),
        (
            {"segmentation": {"size": [48, 40], "counts": [0, 1920]}},
            "annotation 7: its run-length code is for 40 x 48 pixels, but image 9 has 48 x 40",
        ),
        (
            {"segmentation": {"size": [40, 48], "counts": [0, 1900]}},
            "annotation 7: the runs of its code cover 1900 of 1920 pixels",
        ),
        ({"bbox": [1, 2, 3]}, "is not an instances file of COCO: Expected `array` of length 4 - at "),
        ({"area": "large"}, "is not an instances file of COCO: Expected `float`, got `str` - at "),
    ],
)
def test_an_annotation_that_contradicts_the_rest_is_named(tmp_path, data, changes, message):
    data["annotations"].append(annotation(7, 9, 1, (5, 5, 10, 10), **changes))
    assert error(*write(tmp_path, data)).startswith(message)


def test_compressed_codes_that_do_not_fit_their_image_are_named(tmp_path, data):
    short = rle.encode(np.ones((20, 48), dtype=np.uint8, order="F"))["counts"].decode()
    data["annotations"] = [annotation(7, 9, 1, (5, 5, 10, 10), segmentation={"size": [40, 48], "counts": short})]
    assert error(*write(tmp_path, data)).startswith(
        "annotation 7: its run-length code does not fit: Invalid RLE mask representation; decoded 960 pixels"
    )


def test_another_number_of_categories_is_an_error(tmp_path, data):
    assert error(*write(tmp_path, data), classes=80) == "has 3 categories where the task has 80"


def test_missing_images_are_counted_and_the_first_is_named(tmp_path, data):
    file, folder = write(tmp_path, data)
    (folder / "000000000139.jpg").unlink()
    assert error(file, folder) == (
        "1 of the 3 images in instances_val2017.json are missing; the first is 000000000139.jpg (image 139)"
    )


def test_an_image_outside_of_its_folder_is_refused(tmp_path, data):
    file, folder = write(tmp_path, data)
    data["images"][0]["file_name"] = "../secret.jpg"
    file.write_text(json.dumps(data))
    assert error(file, folder) == "image 9: '../secret.jpg' is not a plain file name"


def test_missing_files_and_files_of_another_kind_are_errors(tmp_path, data):
    file, folder = write(tmp_path, data)
    assert error(tmp_path / "none.json", folder) == "cannot be read (No such file or directory)"
    assert error(file, tmp_path / "none").startswith("the images of instances_val2017.json belong here")
    file.write_text('{"images": []}')
    assert error(file, folder).startswith("is not an instances file of COCO: Object missing required field")
    file.write_text('{"images": [')
    assert error(file, folder).startswith("is not an instances file of COCO: Input data was truncated")


def test_an_image_that_is_cut_short_empty_or_of_another_size_is_named_with_its_id(tmp_path, data):
    file, folder = write(tmp_path, data)
    split = read(file, folder, classes=3, training=False)
    whole = (folder / "000000000009.jpg").read_bytes()
    (folder / "000000000009.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "000000000139.jpg").write_bytes(b"")
    Image.new("RGB", (40, 48)).save(folder / "000000000285.jpg")
    with pytest.raises(InputError, match=r"009.jpg: image 9 of instances_val2017.json cannot be read: .*truncated"):
        split.image(0)
    with pytest.raises(InputError, match=r"139.jpg: image 139 of instances_val2017.json cannot be read"):
        split.image(1)
    with pytest.raises(InputError, match=r"285.jpg: is 40 x 48, but .* says that image 285 is 48 x 40"):
        split.image(2)
