"""The suites coco and mini_coco: their tasks, and a tree with COCO's real file names that they read and score."""

from dataclasses import replace

import pytest
import torch
from coco_tree import annotation, real_categories, write
from dense_cases import detector
from vits import small

import petlbench
from petlbench import measure
from petlbench.dense.coco_evaluation import ground_truth
from petlbench.dense.head import Maps
from petlbench.dense.images import Part, pixels, stacked
from petlbench.errors import InputError
from petlbench.zoo import suite

SUITES = ("coco", "mini_coco")


@pytest.fixture
def root(tmp_path):
    """DIR/coco as it is distributed, with a few images of a few sizes."""
    sizes = {9: (96, 64), 139: (64, 96), 285: (96, 96), 632: (50, 70)}
    for split in ("train2017", "val2017"):
        data = {
            "info": {},
            "licenses": [],
            "categories": real_categories(),
            "images": [
                {"id": number, "file_name": f"{number:012d}.jpg", "width": width, "height": height}
                for number, (width, height) in sizes.items()
            ],
            "annotations": [
                annotation(1, 9, 90, (10, 10, 40, 30)),
                annotation(2, 139, 1, (10, 20, 30, 60)),
                annotation(3, 285, 13, (5, 5, 80, 80)),
            ],
        }
        write(tmp_path / "coco", data, split)
    return tmp_path


def test_tasks_name_detector_and_schedule():
    coco = suite("coco")()
    assert [task.name for task in coco.tasks] == ["mask_rcnn_1x", "mask_rcnn_3x", "cascade_mask_rcnn_3x", "atss_3x"]
    method = petlbench.load("linear")()
    passes = [coco.standard(task, method).steps * 16 / 117_280 for task in coco.tasks]
    assert passes == [12, 36, 36, 36]
    assert [task.scales[:1] + task.scales[-1:] for task in coco.tasks] == [(), (480, 800), (480, 800), (480, 800)]


@pytest.mark.parametrize("name", SUITES)
def test_every_task_has_a_head_and_a_recipe_that_says_that_it_is_ours(name):
    each = suite(name)()
    for task in each.tasks:
        with torch.device("meta"):
            vit = small(depth=4)
            head = each.head(vit, task)
        assert sum(parameter.numel() for parameter in head.parameters()) > 0
        assert each.standard(task, petlbench.load("linear")()).source.startswith("petlbench")


def test_coco_is_found_at_the_root_and_in_a_folder_below_it(root):
    coco = suite("coco")()
    assert coco.prepare(coco.tasks[0], root) == root / "coco"
    assert coco.prepare(coco.tasks[0], root / "coco") == root / "coco"
    with pytest.raises(InputError, match="annotations_trainval2017"):
        coco.prepare(coco.tasks[0], root / "coco" / "val2017")


def test_labels_are_the_80_classes_in_order(root):
    coco = suite("coco")()
    source = coco.read(coco.tasks[0], root / "coco", training=False)
    assert source.names[0] == "person"
    assert source.names[-1] == "toothbrush"
    assert [source.target(index)["labels"].tolist() for index in range(4)] == [[80], [1], [12], []]


def test_training_leaves_the_image_without_objects_out_and_evaluation_keeps_it(root):
    coco = suite("coco")()
    sizes = [len(coco.read(coco.tasks[0], root / "coco", training=training)) for training in (True, False)]
    assert sizes == [3, 4]


def test_a_part_of_a_split_is_scored_by_itself(root):
    coco = suite("coco")()
    source = coco.read(coco.tasks[0], root / "coco", training=True)
    evaluator = coco.evaluator(coco.tasks[0], Part(Part(source, [0, 2]), [1]))
    truth = ground_truth(evaluator.truth)
    assert [image["id"] for image in truth["images"]] == [285]
    assert [each["id"] for each in truth["annotations"]] == [3]


def test_what_is_found_comes_back_with_the_ids_of_the_file(root):
    coco = suite("coco")()
    evaluator = coco.evaluator(coco.tasks[0], coco.read(coco.tasks[0], root / "coco", training=False))
    found = {
        "boxes": torch.tensor([[20.0, 20.0, 100.0, 80.0]]),
        "labels": torch.tensor([80]),
        "scores": torch.tensor([0.9]),
        "masks": torch.ones(1, 28, 28),
    }
    evaluator.add(0, found, (128, 192), (64, 96))
    assert evaluator.found[0]["category_id"] == 90
    scores = dict(evaluator.scores())
    assert scores["box_ap/toothbrush"] == scores["mask_ap/toothbrush"] == pytest.approx(100)
    assert scores["box_ap"] == pytest.approx(100 / 3)


def test_what_is_found_in_an_image_does_not_depend_on_the_images_beside_it(root):
    coco = suite("coco")()
    task = replace(coco.tasks[0], sides=(64, 96))
    source = coco.read(task, root / "coco", training=False)
    encoder = small(depth=4, dynamic_img_size=True)
    head = detector(strides=encoder.strides, channels=encoder.channels).eval()
    head.roi.score_thresh = 0.0

    @torch.inference_mode()
    def look(views):
        images = stacked([pixels(each) for each in views], lambda image: image / 255 - 0.5)
        return head.predict(encoder.pyramid(images), images, [(each.height, each.width) for each in views])

    pictures = [source.image(index) for index in range(len(source))]
    together = coco.answers(task, look, pictures)
    alone = [coco.answers(task, look, [each])[0] for each in pictures]
    assert len({size for _, size in alone}) > 1
    for (here, size), (there, same) in zip(together, alone, strict=True):
        assert size == same
        torch.testing.assert_close(here["boxes"], there["boxes"], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(here["scores"], there["scores"])


def test_what_a_detector_costs_is_the_same_computed_and_by_shapes_alone():
    mini = suite("mini_coco")()
    vit = small(depth=4, dynamic_img_size=True)
    head, images = mini.head(vit, mini.tasks[0]), torch.zeros(1, 3, 64, 64)
    computed, shapes = (measure.count(Maps(vit), head, images, large=large) for large in (False, True))
    assert computed == shapes
    assert shapes.head_parameters == sum(parameter.numel() for parameter in head.parameters())
    assert shapes.flops > 0
