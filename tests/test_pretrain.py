"""Pre-training: what is drawn, what a training leaves behind, and the weights that come with the package."""

import hashlib
import json
import math
import shlex
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from timm.models.vision_transformer import VisionTransformer
from torch import Generator

from petlbench import backbone
from petlbench.backbone import MINI
from petlbench.card import check
from petlbench.cli import main, parser
from petlbench.drawing.pretraining import Fractals, PretrainingImages, Scenes, Shapes, Textures, paint
from petlbench.errors import InputError
from petlbench.figures import pretraining as curves
from petlbench.pretraining import Pretraining, Trainer
from petlbench.pretraining.mim import MaskedAutoencoder, embed

SHORT = Pretraining(images=48, batch_size=8)
"""Six steps."""


def silent(line: str) -> None:
    """Take a line of progress that the test does not look at."""


@pytest.fixture(scope="module")
def pictures() -> PretrainingImages:
    return PretrainingImages(seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training that nobody interrupted."""
    out = tmp_path_factory.mktemp("trained")
    Trainer(SHORT, out).run(report=silent)
    return out


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_there_are_200_shapes_200_fractals_132_textures_and_120_scenes(pictures: PretrainingImages) -> None:
    assert pictures.labels == {
        "shapes": range(200),
        "fractals": range(200, 400),
        "textures": range(400, 532),
        "scenes": range(532, 652),
    }


def test_of_sixteen_pictures_five_are_shapes_four_fractals_three_textures_and_four_scenes(
    pictures: PretrainingImages,
) -> None:
    images, labels, _ = pictures.batch(64, Generator().manual_seed(0))
    assert images.shape == (64, 3, 64, 64)
    assert [int(sum(label in own for label in labels)) for own in pictures.labels.values()] == [20, 16, 12, 16]


def test_pictures_are_drawn_and_learned_on_the_device_that_was_asked_for_whatever_the_default_is(
    pictures: PretrainingImages, tmp_path: Path
) -> None:
    """What would be made on the default device, here one that holds no numbers, could not be used on a GPU."""
    wanted = pictures.batch(32, Generator().manual_seed(0))
    trainer = Trainer(SHORT, tmp_path)
    with torch.device("meta"):
        found = pictures.batch(32, Generator("cpu").manual_seed(0))
        scores = trainer._train_one_batch()
    assert all(torch.equal(each, other) for each, other in zip(found, wanted, strict=True))
    assert {value.device.type for value in scores.values()} == {"cpu"}


@pytest.mark.parametrize("hardness", [0.0, 0.5, 1.0])
def test_pixels_lie_between_0_and_1_and_no_picture_is_blank(pictures: PretrainingImages, hardness: float) -> None:
    images, _, _ = pictures.batch(64, Generator().manual_seed(0), hardness)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(1).min() > 0.01


def test_the_easiest_pictures_are_light_on_dark_and_the_hardest_are_as_often_negatives(
    pictures: PretrainingImages,
) -> None:
    easy, hard = (pictures.batch(256, Generator().manual_seed(0), hardness)[0].mean((1, 2, 3)) for hardness in (0, 1))
    assert (easy > 0.5).float().mean() < 0.1
    assert 0.35 < (hard > 0.5).float().mean() < 0.65


def test_every_class_of_every_family_can_be_drawn(pictures: PretrainingImages) -> None:
    for name, family in pictures.families.items():
        coverage = family.draw(torch.arange(family.classes), Generator().manual_seed(0))
        assert coverage.shape == (len(pictures.labels[name]), 64, 64)
        assert coverage.flatten(1).std(1).min() > 0.01, name
        assert coverage.min() >= 0, name
        assert coverage.max() <= 1, name


def test_the_same_seed_gives_the_same_classes_and_another_seed_others(pictures: PretrainingImages) -> None:
    def draw(family: Shapes | Fractals | Textures | Scenes) -> torch.Tensor:
        return family.draw(torch.arange(100), Generator().manual_seed(5))

    generator = Generator().manual_seed(0)
    assert torch.equal(draw(Shapes(generator)), draw(pictures.families["shapes"]))
    assert torch.equal(draw(Fractals(generator)), draw(pictures.families["fractals"]))
    assert torch.equal(draw(Scenes(generator)), draw(pictures.families["scenes"]))
    assert not torch.equal(draw(Shapes(Generator().manual_seed(1))), draw(pictures.families["shapes"]))
    assert not torch.equal(draw(Scenes(Generator().manual_seed(1))), draw(pictures.families["scenes"]))


def test_a_solid_is_brightest_where_it_faces_the_light_and_dark_behind_its_edge(pictures: PretrainingImages) -> None:
    scenes = Scenes(Generator().manual_seed(0))
    scenes.radii, scenes.slopes = torch.full_like(scenes.radii, 0.5), torch.zeros_like(scenes.slopes)
    drawn = scenes.draw(torch.zeros(64, dtype=torch.long), Generator().manual_seed(1))
    assert drawn.amin((1, 2)).tolist() == [0.0] * 64  # there is always some background
    ink = drawn[drawn > 0.24]
    assert ink.max() <= 1.0
    assert ((drawn > 0.24).float().mean((1, 2)) > 0.03).all()  # the nearest is always there
    assert (drawn > 0.9).flatten(1).any(1).float().mean() > 0.5  # and most lights reach it


def test_the_pictures_of_seed_0_are_those_the_packaged_weights_have_seen(pictures: PretrainingImages) -> None:
    images, labels, _ = pictures.batch(64, Generator().manual_seed(1), hardness=0.0)
    assert labels[[0, 20, 36, 48]].tolist() == [45, 317, 431, 625]
    assert images.flatten(1).mean(1)[[0, 20, 36, 48]].tolist() == pytest.approx([0.150, 0.295, 0.507, 0.168], abs=1e-3)


def test_the_rate_warms_up_peaks_and_ends_at_zero_while_hardness_rises_from_0_to_1() -> None:
    recipe = Pretraining(images=64_000, batch_size=64, lr=1e-3)
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    assert rates[0] == pytest.approx(1e-3 / 30)
    assert max(rates) == pytest.approx(1e-3, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(30, abs=2)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert [recipe.hardness(step) for step in (0, 150, 375, 600, 999)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_training_logs_its_loss_and_the_accuracy_of_each_family(trained: Path) -> None:
    log = lines(trained)
    assert [line["images"] for line in log] == [8, 16, 24, 32, 40, 48]
    assert all(set(line) == {"images", "hardness", "loss", "shapes", "fractals", "textures", "scenes"} for line in log)
    assert log[0]["loss"] == pytest.approx(math.log(652) + 10 * math.log(2), abs=1.5)  # of guessing classes and sketch


def test_the_loss_of_one_batch_falls_when_it_is_seen_again_and_again() -> None:
    trainer = Trainer(SHORT, Path("nowhere"))
    drawn = trainer.pictures.batch(8, Generator().manual_seed(0), hardness=0.0)
    losses = []
    for _ in range(30):
        loss, _ = trainer.learner(drawn, Generator().manual_seed(0))
        loss.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_training_that_was_stopped_goes_on_to_the_same_weights_and_log(trained: Path, tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818  no error: somebody pressed a key
        pass

    def stop_after_the_third_line(line: str) -> None:
        if line.startswith("24 "):
            raise Stopped

    with pytest.raises(Stopped):
        Trainer(SHORT, tmp_path).run(report=stop_after_the_third_line)
    assert not json.loads((tmp_path / "mini.json").read_text())["finished"]
    again = Trainer(SHORT, tmp_path)
    again.resume()
    assert again.step == 3
    again.run(report=silent)
    assert (tmp_path / "mini.safetensors").read_bytes() == (trained / "mini.safetensors").read_bytes()
    assert lines(tmp_path) == lines(trained)


def test_a_damaged_or_foreign_checkpoint_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((trained / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"--resume: .*checkpoint\.pt cannot be read"):
        Trainer(SHORT, tmp_path).resume()
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"--resume: .*checkpoint\.pt cannot be read: TypeError"):
        Trainer(SHORT, tmp_path).resume()


def test_resuming_needs_a_checkpoint_of_the_same_recipe(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume: no checkpoint in"):
        Trainer(SHORT, tmp_path).resume()
    with pytest.raises(InputError, match=r"is of another training: images 64, there 48, lr 0.0001, there 0.001$"):
        Trainer(Pretraining(images=64, batch_size=8, lr=1e-4), trained).resume()
    try:
        torch.set_num_threads(2)
        with pytest.raises(InputError, match=r"is of another training: threads 2, there 1$"):
            Trainer(SHORT, trained).resume()
    finally:
        torch.set_num_threads(1)


def test_a_training_is_not_overwritten(trained: Path) -> None:
    with pytest.raises(InputError, match=r"--out .* holds a training already; pass --resume or another folder"):
        Trainer(SHORT, trained).run(report=silent)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file with its card: a wider backbone after two steps of masked image modelling."""
    recipe = Pretraining(objective="mim", backbone="mini(embed_dim=160,num_heads=5)", images=16, batch_size=8)
    trainer = Trainer(recipe, tmp_path_factory.mktemp("teacher"))
    trainer.run(report=silent)
    return trainer.weights


SMALL = "mini(embed_dim=64, depth=3)"
SWIN = "swin_tiny_patch4_window7_224(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))"


def recipe_for(objective: str, backbone: str = SMALL) -> Pretraining:
    return Pretraining(objective=objective, backbone=backbone, images=32, batch_size=8)


OTHERS = ["supervised", "mim", "distill", "distill(attention=0.0, features=1.0)"]


@pytest.mark.parametrize("objective", OTHERS)
class TestOfEveryOtherObjective:
    def trainer(self, objective: str, teacher: Path, out: Path) -> Trainer:
        return Trainer(recipe_for(objective), out, teacher if objective.startswith("distill") else None)

    def test_it_goes_on_to_the_same_weights_and_log(self, objective: str, teacher: Path, tmp_path: Path) -> None:
        class Stopped(Exception):  # noqa: N818  no error: somebody pressed a key
            pass

        def stop_after_the_second_line(line: str) -> None:
            if line.startswith("16 "):
                raise Stopped

        whole = self.trainer(objective, teacher, tmp_path / "whole")
        whole.run(report=silent)
        with pytest.raises(Stopped):
            self.trainer(objective, teacher, tmp_path / "stopped").run(report=stop_after_the_second_line)
        again = self.trainer(objective, teacher, tmp_path / "stopped")
        again.resume()
        again.run(report=silent)
        assert again.weights.read_bytes() == whole.weights.read_bytes()
        assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")

    def test_its_loss_falls_on_one_batch_and_every_part_of_it_learns(
        self, objective: str, teacher: Path, tmp_path: Path
    ) -> None:
        trainer = self.trainer(objective, teacher, tmp_path)
        drawn = trainer.pictures.batch(8, Generator().manual_seed(0), hardness=0.0)
        before = {name: value.clone() for name, value in trainer.learner.named_parameters() if value.requires_grad}
        losses = []
        for _ in range(40):
            loss, _ = trainer.learner(drawn, Generator().manual_seed(0))
            loss.backward()
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]
        unmoved = [
            name
            for name, value in trainer.learner.named_parameters()
            if torch.equal(before.get(name, 0 * value), value)
        ]
        assert set(unmoved) <= {"vit.model.pos_embed"}

    def test_its_weights_are_those_of_the_backbone_alone(self, objective: str, teacher: Path, tmp_path: Path) -> None:
        trainer = self.trainer(objective, teacher, tmp_path)
        trainer.run(report=silent)
        vit = backbone.build(SMALL, str(trainer.weights))
        assert torch.equal(vit.state_dict()["model.norm.weight"], trainer.learner.model.norm.weight.half().float())
        card = json.loads(trainer.weights.with_suffix(".json").read_text())
        assert (card["name"], card["objective"]) == (SMALL, trainer.objective.title)
        taught = objective.startswith("distill")
        digest = {
            "name": "mini(embed_dim=160, num_heads=5)",
            "sha256": hashlib.sha256(teacher.read_bytes()).hexdigest(),
        }
        assert card["teacher"] == (digest if taught else None)
        options = parser().parse_args(shlex.split(card["command"])[1:])
        assert (options.objective, options.backbone, options.images) == (objective, SMALL, 32)


def test_the_encoder_of_a_masked_modelling_never_sees_a_masked_patch(tmp_path: Path) -> None:
    learner = Trainer(recipe_for("mim"), tmp_path).learner
    assert isinstance(learner, MaskedAutoencoder)
    images = torch.rand(2, 3, 64, 64, generator=Generator().manual_seed(0))
    order, visible = learner.choose(images, Generator().manual_seed(0))
    assert visible == 4
    assert order.sort(1).values.tolist() == [list(range(16))] * 2
    tokens = embed(learner.vit, images, order[:, :visible])
    assert tokens.shape == (2, 5, 64)
    for patch in order[0, visible:].tolist():
        row, column = divmod(patch, 4)
        images[0, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 0
    assert torch.equal(embed(learner.vit, images, order[:, :visible]), tokens)


def test_the_pixels_to_paint_are_normalised_per_patch_and_stand_where_the_patch_stood(tmp_path: Path) -> None:
    learner = Trainer(recipe_for("mim"), tmp_path).learner
    assert isinstance(learner, MaskedAutoencoder)
    images = torch.rand(1, 3, 64, 64, generator=Generator().manual_seed(0))
    pixels = learner.decoder.pixels(images)
    assert pixels.shape == (1, 16, 768)
    assert pixels.mean(2).abs().max() < 1e-4
    assert torch.allclose(pixels.var(2), torch.ones(1, 16), atol=1e-3)
    patch = images[0, :, 16:32, 32:48].flatten()  # row 1, column 2
    assert torch.allclose(pixels[0, 6], (patch - patch.mean()) / patch.std(), atol=1e-3)


def test_a_student_that_is_its_teacher_is_at_no_distance_from_its_attention(teacher: Path, tmp_path: Path) -> None:
    """The scores that are compared are those inside the teacher's last attention, in front of its softmax."""
    trainer = Trainer(recipe_for("distill"), tmp_path, teacher)
    assert trainer.teacher is not None
    images = torch.rand(2, 3, 64, 64, generator=Generator().manual_seed(0))
    visible = torch.tensor([[0, 5, 6, 9], [3, 2, 8, 15]])
    found = trainer.learner._attention(images, visible)
    vit = trainer.teacher.vit
    last = vit.blocks[-1].attn
    tokens = vit.blocks[-1].norm1(vit.blocks[:-1](embed(vit, images, visible)))
    values = last.qkv(tokens).chunk(3, -1)[2].unflatten(-1, (vit.heads, -1)).transpose(1, 2)
    mixed = (found.softmax(-1) @ values).transpose(1, 2).flatten(2)
    assert found.shape == (2, 5, 5, 5)
    assert torch.allclose(last.proj(mixed), last(tokens), atol=1e-5)


def test_a_swin_can_be_trained_with_labels_and_run_at_the_size_it_was_trained_at(tmp_path: Path) -> None:
    trainer = Trainer(recipe_for("supervised", SWIN), tmp_path)
    trainer.run(report=silent)
    assert trainer.weights.name == "swin_tiny_patch4_window7_224.safetensors"
    swin = backbone.build(SWIN, str(trainer.weights), image_size=64)
    assert swin(torch.zeros(1, 3, 64, 64)).shape == (1, 128)


@pytest.mark.parametrize(
    ("objective", "name", "message"),
    [
        ("mae", SMALL, r"unknown --objective 'mae': .*valid: distill, mim, supervised"),
        ("mim(masks=0.5)", SMALL, r"--objective mim has no field 'masks': did you mean mask\?"),
        ("mim(mask=1.0)", SMALL, r"--objective mim: mask=1.0, expected more than 0 and less than 1"),
        ("mim", SWIN, r"--objective mim: leaves out patches, which only a ViT allows; swin.* is none"),
        ("mim", "mini(embed_dim=60)", r"--objective mim: mini.* has width 60, expected a multiple of 8"),
        ("mim", "mini(patch_size=64)", r"--objective mim: mini.* has one patch"),
        ("mim", "nano", r"unknown backbone 'nano'"),
        (
            "supervised",
            "mini(embed_dim=30, num_heads=4)",
            r"--backbone mini\(.*\): cannot be built: AssertionError: dim should be divisible",
        ),
        ("distill", SMALL, r"--objective distill: needs --teacher FILE, the weights of a larger backbone"),
        ("mim", "mini(window=2)", r"--backbone mini\(window=2\): is trained without windows"),
        ("supervised", "mini(global_pool='')", r"--backbone mini.*: cannot be trained by --objective supervised: "),
        ("supervised", "mini(patch_size=128)", r"--backbone mini.*: cannot be trained by --objective supervised: "),
        ("mim", "mini(patch_size=(16, 8))", r"--backbone mini.*: cannot be (trained|built)"),
        (
            "supervised",
            "deit_tiny_distilled_patch16_224",
            r"--backbone deit_tiny_distilled_patch16_224: cannot be trained by --objective supervised: ",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(objective: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(recipe_for(objective, name), tmp_path)


def test_a_teacher_needs_its_card_the_same_patches_and_an_objective_that_asks_it(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--objective mim: has no --teacher"):
        Trainer(recipe_for("mim"), tmp_path, teacher)
    lonely = tmp_path / "lonely.safetensors"
    lonely.write_bytes(teacher.read_bytes())
    with pytest.raises(InputError, match=r"--teacher .*lonely\.safetensors: lonely\.json beside it should say"):
        Trainer(recipe_for("distill"), tmp_path, lonely)
    with pytest.raises(
        InputError, match=r"--teacher: mini\(.*\) cuts images into other tokens than mini\(.*patch_size=8"
    ):
        Trainer(recipe_for("distill", "mini(embed_dim=64, patch_size=8)"), tmp_path, teacher)
    trainer = Trainer(recipe_for("distill"), tmp_path, teacher)
    trainer.run(report=silent)
    other = Trainer(recipe_for("mim"), tmp_path / "other")
    other.run(report=silent)
    with pytest.raises(InputError, match=r"is of another training: .*teacher [0-9a-f]+, there [0-9a-f]+$"):
        Trainer(recipe_for("distill"), tmp_path, other.weights).resume()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"images": 100, "batch_size": 4}, "--batch-size must be at least 8 and --images at least one batch"),
        ({"images": 5, "batch_size": 8}, "--batch-size must be at least 8 and --images at least one batch"),
        ({"lr": math.nan}, r"--lr nan: expected a number above 0"),
        ({"lr": -1.0}, r"--lr -1.0: expected a number above 0"),
        ({"seed": 2**32}, r"--seed 4294967296: expected 0 to 4294967295"),
        ({"seed": -1}, r"--seed -1: expected 0 to"),
        ({"objective": "mim,distill"}, r"--objective 'mim,distill': expected one name, found 2"),
        ({"objective": "supervised(label_smoothing=2.0)"}, r"label_smoothing=2.0, expected 0 or more and less than 1"),
        ({"objective": "supervised(sketch=-1.0)"}, r"--objective supervised: sketch=-1.0, expected 0 or more"),
        ({"objective": "distill(attention=-1.0, features=1.0)"}, r"distill: attention=-1.0, expected 0 or more"),
        ({"backbone": "mini,hst"}, r"--backbone 'mini,hst': expected one name, found 2"),
        ({"backbone": ""}, r"--backbone '': expected one name, found 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(Pretraining(**{"images": 48, "batch_size": 8, **setting}), tmp_path)


def test_a_training_that_diverges_ends_and_keeps_what_was_saved_before(tmp_path: Path) -> None:
    trainer = Trainer(Pretraining(images=80, batch_size=8, lr=1e4), tmp_path)
    with pytest.raises(InputError, match=r"--lr 10000.0: loss or weights are not finite any more after .* pictures"):
        trainer.run(report=silent)
    assert 0 < trainer.step < 10
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path))
    assert all(value.isfinite().all() for value in load(trainer.weights.read_bytes()).values())


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        trainer = Trainer(SHORT, out)
        with pytest.raises(InputError, match=r"--out .*file.*: cannot be written: (File exists|Not a directory)$"):
            trainer.run(report=silent)
        assert trainer.step == 0


def test_an_interrupt_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(trainer: Trainer) -> None:
        if trainer.step == 2:
            raise KeyboardInterrupt
        save(trainer)

    save = Trainer.save
    options = ["pretrain", "--images", "48", "--batch-size", "8", "--out", str(tmp_path)]
    monkeypatch.setattr(Trainer, "save", interrupted)
    assert main(options) == 130
    assert "petlbench: interrupted: 8 pictures are kept in " in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*options, "--resume"]) == 0
    assert len(lines(tmp_path)) == 6


def test_weights_of_other_heads_are_refused_by_their_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their tensors have the same shapes, so nothing else would tell."""
    trainer = Trainer(replace(SHORT, backbone="mini(num_heads=16)"), tmp_path)
    trainer.run(report=silent)
    run = ["run", "--methods", "linear", "--suite", "mini", "--weights", str(trainer.weights), "--backbone"]
    assert main([*run, "mini"]) == 2
    assert "trained as mini(num_heads=16), which is not mini; pass --backbone 'mini(num_heads=16)'" in (
        capsys.readouterr().err
    )
    check(backbone.describe("mini(num_heads=16)", str(trainer.weights)), str(trainer.weights))
    trainer.weights.with_suffix(".json").unlink()
    check(backbone.describe("mini", str(trainer.weights)), str(trainer.weights))  # nobody knows


def test_the_packaged_weights_have_four_heads_however_that_is_said(tmp_path: Path) -> None:
    for name in ("mini.safetensors", "mini.json"):
        (tmp_path / name).write_bytes((files("petlbench.weights") / name).read_bytes())
    weights = str(tmp_path / "mini.safetensors")
    for name in ("mini", "mini(num_heads=4)", "mini(window=2)"):
        check(backbone.describe(name, weights), weights)
    with pytest.raises(InputError, match=r"trained as mini, which is not mini\(num_heads=2\)"):
        check(backbone.describe("mini(num_heads=2)", weights), weights)


def test_the_command_trains_and_prints_where_the_weights_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
) -> None:
    options = ["--images", "48", "--batch-size", "8", "--threads", "1", "--out", str(tmp_path)]
    assert main(["pretrain", *options]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'mini.safetensors'}\n"
    assert len(shown.err.splitlines()) == 6
    assert (tmp_path / "mini.safetensors").read_bytes() == (trained / "mini.safetensors").read_bytes()
    assert main(["pretrain", *options, "--resume"]) == 0
    assert main(["pretrain", *options]) == 2


def test_the_command_draws_the_curves_of_whatever_is_learned(tmp_path: Path) -> None:
    for objective, parts in (("supervised", 4), ("mim", 1)):
        out = tmp_path / objective
        assert (
            main(["pretrain", "--objective", objective, "--images", "24", "--batch-size", "8", "--out", str(out)]) == 0
        )
        assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
        log = curves.read(out / "log.jsonl")
        assert len(log) == 3
        curves.draw(log, objective == "supervised", out / "curves.svg")
        svg = (out / "curves.svg").read_text()
        assert (
            sum(f">{name}</text>" in svg for name in ("shapes", "fractals", "textures", "scenes", "reconstruction"))
            == parts
        )
        assert ("right (%)" in svg) == (objective == "supervised")


def test_on_a_terminal_a_bar_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["pretrain", "--images", "48", "--batch-size", "8", "--out", str(tmp_path)]) == 0
    assert "100%" in capsys.readouterr().err


def test_the_options_of_the_command_default_to_the_recipe() -> None:
    options, recipe = parser().parse_args(["pretrain"]), Pretraining()
    for name in ("objective", "backbone", "images", "batch_size", "lr", "seed", "precision"):
        assert getattr(options, name) == getattr(recipe, name), name


class TestTheWeightsInThePackage:
    weights = (files("petlbench.weights") / "mini.safetensors").read_bytes()
    card = json.loads((files("petlbench.weights") / "mini.json").read_text())

    def test_they_are_the_ones_their_card_describes(self) -> None:
        assert hashlib.sha256(self.weights).hexdigest() == self.card["sha256"]
        assert self.card["weights"] == sum(value.numel() for value in load(self.weights).values()) == 1_290_624
        assert self.card["finished"]
        assert self.card["images_seen"] == self.card["recipe"]["images"]

    def test_they_fit_the_architecture_strictly_and_take_2_6_megabytes(self) -> None:
        model = VisionTransformer(**MINI, num_classes=0)
        model.load_state_dict(load(self.weights), strict=True)
        assert all(value.dtype == torch.float16 and value.isfinite().all() for value in load(self.weights).values())
        assert len(self.weights) < 2_600_000

    def test_the_command_on_the_card_asks_for_the_recipe_on_the_card(self) -> None:
        options = parser().parse_args(shlex.split(self.card["command"])[1:])
        for name in ("objective", "images", "batch_size", "lr", "seed", "precision"):
            assert getattr(options, name) == self.card["recipe"][name], name

    def test_they_name_the_pictures_of_pre_training_far_better_than_chance(self, pictures: PretrainingImages) -> None:
        """Nearest class mean on fresh textures: chance is 100 % / 132."""
        model = VisionTransformer(**MINI, num_classes=0).eval()
        model.load_state_dict(load(self.weights))
        family, labels = pictures.families["textures"], torch.arange(132).repeat(2)
        generator = Generator().manual_seed(1)
        with torch.inference_mode():
            sets = [model((paint(family.draw(labels, generator), generator, 0.5) - 0.5) / 0.25) for _ in range(2)]
        means = sets[0].view(2, 132, -1).mean(0)
        nearest = torch.cdist(sets[1], means).argmin(1)
        assert (nearest == labels).float().mean() > 0.3
