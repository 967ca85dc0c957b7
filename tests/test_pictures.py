"""Predictions as pictures: what stands where, and in which colour."""

import numpy as np
import pytest
from coco_tree import contents, write
from PIL import Image

from petlbench.dense.coco import read
from petlbench.dense.coco_evaluation import Evaluator, ground_truth
from petlbench.dense.pictures import SURE, colour, pair
from petlbench.dense.suite import Drawing


@pytest.fixture
def truth(tmp_path):
    split = read(*write(tmp_path, contents()), classes=3, training=False)
    for photo in split.photos:
        Image.new("RGB", (photo.width, photo.height), "black").save(split.folder / photo.file_name)
    return split


def halves(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    pixels, width = np.asarray(picture), (picture.width - 8) // 2
    return pixels[:, :width], pixels[:, width + 8 :]


def test_what_is_found_stands_at_the_right_as_the_truth_does_at_the_left(truth):
    found = [{**each, "score": 1.0} for each in ground_truth(truth)["annotations"][:2]]
    left, right = halves(pair(truth, 0, found))
    inside = (slice(10 * 10, 10 * 30), slice(10 * 8, 10 * 20))  # within the person, enlarged ten times
    wanted = np.round(0.45 * np.array(colour(truth, found[0])))
    assert np.abs(left[inside].reshape(-1, 3).mean(0) - wanted).max() <= 1
    assert np.abs(right[inside].reshape(-1, 3).mean(0) - wanted).max() <= 1
    assert (left[390:, 440:] == 0).all()


def test_what_the_detector_is_not_sure_of_is_left_out(truth):
    unsure = [{**ground_truth(truth)["annotations"][0], "score": SURE - 0.01}]
    _, right = halves(pair(truth, 0, unsure))
    assert (right == 0).all()


def test_every_class_has_its_own_colour(truth):
    colours = {colour(truth, {"category_id": category}) for category in truth.categories}
    assert len(colours) == 3


def test_a_run_draws_what_its_evaluator_was_given(truth):
    evaluator = Evaluator(truth)
    assert isinstance(evaluator, Drawing)
    evaluator.found = [{**each, "score": 1.0} for each in ground_truth(truth)["annotations"][:2]]
    assert evaluator.picture(0).tobytes() == pair(truth, 0, evaluator.found).tobytes()
