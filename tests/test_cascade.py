"""The cascade: what each stage takes for an object, how boxes move from stage to stage, and what comes out."""

import pytest
import torch
from dense_cases import detector, maps, target
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou
from vits import pickled

from petlbench.dense.cascade import STAGES, CascadeMaskRCNN, box_losses, refine

SIZE = (64, 64)
FEATURES = {str(level): torch.zeros(1, 16, 16 >> level, 16 >> level) for level in range(4)}
OBJECT = torch.tensor([[10.0, 10.0, 50.0, 50.0]])


@pytest.fixture
def roi():
    """The RoI heads for two classes, which draw every region they are offered."""
    heads = detector(CascadeMaskRCNN, classes=2).roi
    heads.fg_bg_sampler = lambda labels: ([each > 0 for each in labels], [each == 0 for each in labels])
    return heads


def say(stage: nn.Module, scores: list[float], deltas: list[float]) -> None:
    """Make a stage say the same of every region: scores of background and classes, deltas of each class."""
    stage.box = Says(scores, deltas)


class Says(nn.Module):
    def __init__(self, scores: list[float], deltas: list[float]) -> None:
        super().__init__()
        self.scores, self.deltas = torch.tensor(scores), torch.tensor(deltas)

    def forward(self, crops):
        return self.scores.expand(len(crops), -1), self.deltas.expand(len(crops), -1)


def wider(overlap: float) -> torch.Tensor:
    """A box that holds the object and overlaps with it by an IoU of `overlap`."""
    return torch.tensor([[10.0, 10.0, 10.0 + 40.0 / overlap, 50.0]])


@pytest.mark.parametrize(("overlap", "stages_that_take_it"), [(0.45, 0), (0.55, 1), (0.65, 2), (0.75, 3)])
def test_each_stage_wants_more_overlap_than_the_one_before(roi, overlap, stages_that_take_it):
    truth, box = target(SIZE, SIZE, (10, 10, 50, 50)), wider(overlap)
    assert box_iou(box, OBJECT).item() == pytest.approx(overlap)
    taken = [roi.regions(stage, [box], [truth])[1][0][0].item() for stage in roi.stages]
    assert taken == [1] * stages_that_take_it + [0] * (3 - stages_that_take_it)


def test_true_boxes_join_the_regions_of_every_stage_and_do_not_travel_to_the_next(roi):
    seen, regions = [], roi.regions
    roi.regions = lambda stage, proposals, targets: seen.append(proposals[0]) or regions(stage, proposals, targets)
    for stage in roi.stages:
        say(stage, [0.0, 1.0, 0.0], [0.0] * 12)
    roi(FEATURES, [wider(0.8)], [SIZE], [target(SIZE, SIZE, (10, 10, 50, 50))])
    assert [each.tolist() for each in seen] == [wider(0.8).tolist()] * 3
    assert regions(roi.stages[2], [wider(0.8)], [target(SIZE, SIZE, (10, 10, 50, 50))])[3][0].tolist() == [False, True]


def test_a_box_moves_by_the_deltas_of_its_true_class_and_else_of_the_likeliest(roi):
    """A delta of 1 shifts the first stage's boxes by a tenth of their width, in the second by a twentieth."""
    box = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    background, left, down = [0.0] * 4, [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]
    scores, deltas = torch.tensor([[9.0, 1.0, 2.0]]), torch.tensor([background + left + down])
    first, second, _ = roi.stages
    likeliest = refine(first, scores, deltas, [box], [SIZE])
    known = refine(second, scores, deltas, [box], [SIZE], [torch.tensor([1])])
    torch.testing.assert_close(likeliest[0], torch.tensor([[0.0, 2.0, 20.0, 22.0]]))
    torch.testing.assert_close(known[0], torch.tensor([[1.0, 0.0, 21.0, 20.0]]))


def test_boxes_that_move_out_of_the_image_are_cut_at_its_border(roi):
    box = torch.tensor([[40.0, 40.0, 60.0, 60.0]])
    moved = refine(roi.stages[0], torch.tensor([[0.0, 1.0, 0.0]]), torch.full((1, 12), 5.0), [box], [(50, 55)])
    assert moved[0][0, 2:].tolist() == [55.0, 50.0]


def test_losses_by_hand(roi):
    """One region on the object's left half misses it by 20 pixels on the right; the other is background."""
    first = roi.stages[0]
    boxes, labels = [torch.tensor([[10.0, 10.0, 30.0, 50.0], [0.0, 0.0, 8.0, 8.0]])], [torch.tensor([1, 0])]
    scores, deltas = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]), torch.zeros(2, 12)
    truth = [target(SIZE, SIZE, (10, 10, 50, 50))]
    losses = box_losses(first, scores, deltas, boxes, labels, [torch.tensor([0, 0])], truth)
    dx, dw = 10 * (30 - 20) / 20, 5 * torch.tensor(40 / 20).log().item()  # shift of the middle, and log of the widening
    assert losses["box"].item() == pytest.approx(((dx - 0.5) + (dw - 0.5)) / 2)  # both over 1; over two regions
    assert losses["classifier"].item() == pytest.approx(cross_entropy(scores, labels[0]).item())


def test_losses_of_later_stages_weigh_less(roi):
    for stage in roi.stages:
        say(stage, [0.0, 0.0, 0.0], [0.0] * 12)
    _, losses = roi(FEATURES, [wider(0.8)], [SIZE], [target(SIZE, SIZE, (10, 10, 50, 50))])
    thirds = torch.tensor(3.0).log()
    for number, (_, _, weight) in enumerate(STAGES, start=1):
        torch.testing.assert_close(losses[f"stage{number}_classifier"], weight * thirds)


def test_a_detection_has_the_mean_of_three_scores_and_the_box_of_the_last_stage(roi):
    """Stages one and two shift by a tenth and a twentieth of the width, the third by a thirtieth."""
    chances = ([0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1])
    for stage, chance in zip(roi.stages, chances, strict=True):
        say(stage, torch.tensor(chance).log().tolist(), [0.0] * 4 + [1.0, 0.0, 0.0, 0.0] + [0.0] * 4)
    ((found,), losses) = roi(FEATURES, [torch.tensor([[0.0, 0.0, 30.0, 30.0]])], [SIZE])
    assert losses == {}
    assert found["labels"].tolist() == [1, 2]
    torch.testing.assert_close(found["scores"], torch.tensor([0.7, 0.1]))
    torch.testing.assert_close(found["boxes"][0], torch.tensor([5.5, 0.0, 35.5, 30.0]))  # 3 + 1.5 + 1
    torch.testing.assert_close(found["boxes"][1], torch.tensor([4.5, 0.0, 34.5, 30.0]))  # the other class stays
    assert found["masks"].shape == (2, 1, 28, 28)


def test_every_weight_of_every_stage_learns():
    head, inputs = detector(CascadeMaskRCNN), maps(2, 64, 64)
    targets = [target(SIZE, SIZE, (4, 4, 30, 30)), target(SIZE, SIZE, (8, 8, 60, 40))]
    losses = head.losses(inputs, torch.zeros(2, 3, 64, 64), targets)
    assert len(losses) == 2 + 3 * 3
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all(stage.mask[0][0][0].weight.grad.abs().sum() > 0 for stage in head.roi.stages)
    assert all(each.grad.abs().sum() > 0 for each in inputs)


def test_images_without_objects_have_finite_losses():
    losses = detector(CascadeMaskRCNN).losses(maps(1, 64, 64), torch.zeros(1, 3, 64, 64), [target(SIZE, SIZE)])
    assert all(loss.isfinite() for loss in losses.values())
    assert all(loss == 0 for name, loss in losses.items() if name.endswith(("_box", "_mask")))


def test_no_proposal_is_no_detection_and_no_error(roi):
    ((found,), _) = roi.eval()(FEATURES, [torch.zeros(0, 4)], [SIZE])
    assert found["boxes"].shape == (0, 4)


def test_it_survives_a_journey_to_another_process():
    head = detector(CascadeMaskRCNN).eval()
    inputs = maps(1, 64, 64)
    with torch.inference_mode():
        here, there = (each.predict(inputs, torch.zeros(1, 3, 64, 64), [SIZE])[0] for each in (head, pickled(head)))
    assert torch.equal(here["boxes"], there["boxes"])
