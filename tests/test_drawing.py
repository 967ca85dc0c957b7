"""Generated pictures: shapes have their area, solids stand where geometry puts them, and a seed fixes every pixel."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from petlbench.drawing import natural, specialized, structured
from petlbench.drawing.canvas import Canvas, cosine, direction, generator, hue, noise, outline, sine
from petlbench.drawing.scenes import Ball, Camera, Scene, box, prism

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
DRAWINGS = [
    (natural.materials, 10),
    (natural.leaves, 8),
    (specialized.fields, 10),
    (specialized.cells, 8),
    (specialized.retina, 5),
    (structured.count, 6),
    (structured.location, 16),
    (structured.orientation, 16),
    (structured.distance, 5),
    (structured.azimuth, 12),
]


def area(canvas: Canvas) -> float:
    """The part of a black canvas that was painted white."""
    return float(canvas.pixels[..., 0].mean())


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (lambda c: c.ellipse(0.5, 0.5, 0.3), math.pi * 0.09),
        (lambda c: c.ellipse(0.5, 0.5, 0.3, 0.1, turn=0.1), math.pi * 0.03),
        (lambda c: c.ellipse(0.0, 0.5, 0.3), math.pi * 0.045),
        (lambda c: c.box(0.5, 0.5, 0.3, 0.1, turn=0.07), 0.12),
        (lambda c: c.polygon([(0.1, 0.1), (0.9, 0.1), (0.1, 0.9)]), 0.32),
        (lambda c: c.polygon([(0.1, 0.1), (0.1, 0.9), (0.9, 0.1)]), 0.32),
        (lambda c: c.polygon([(-1.0, 0.25), (2.0, 0.25), (2.0, 0.75), (-1.0, 0.75)]), 0.5),
        (lambda c: c.stroke([(0.2, 0.2), (0.5, 0.5), (0.8, 0.8)], 0.1), 0.06 * math.sqrt(2)),
        (lambda c: c.polygon(outline([(0.1, 0.5), (0.9, 0.5)], 0.2), outline([(0.5, 0.1), (0.5, 0.9)], 0.2)), 0.28),
        (lambda c: c.polygon([(2.0, 2.0), (3.0, 2.0), (3.0, 3.0)]), 0.0),
    ],
    ids=[
        "disc",
        "turned ellipse",
        "disc cut by the border",
        "turned box",
        "triangle",
        "triangle the other way round",
        "band beyond the borders",
        "line",
        "cross of two lines",
        "outside the picture",
    ],
)
def test_a_shape_covers_its_area(patch, expected):
    canvas = Canvas(BLACK)
    canvas.paint(patch(canvas), WHITE)
    assert area(canvas) == pytest.approx(expected, abs=2e-3)


def test_painting_marks_the_pixels_of_an_object():
    canvas = Canvas(BLACK)
    canvas.paint(canvas.box(0.25, 0.5, 0.125, 0.25), WHITE, instance=7)
    assert np.unique(canvas.instances).tolist() == [0, 7]
    assert (canvas.instances == 7).mean() == pytest.approx(0.125, abs=0.005)


def test_a_half_transparent_coat_mixes_the_colours():
    canvas = Canvas(BLACK)
    canvas.paint(canvas.box(0.5, 0.5, 1.0, 1.0), WHITE, opacity=0.25)
    assert np.allclose(canvas.finished(), 0.25)


def test_the_finished_picture_is_the_mean_of_blocks_of_two_by_two():
    canvas = Canvas(BLACK, side=4)
    canvas.pixels[:2, :2, 0] = [[0.0, 1.0], [1.0, 0.0]]
    assert canvas.finished().shape == (4, 4, 3)
    assert canvas.finished()[0, 0].tolist() == [0.5, 0.0, 0.0]
    assert canvas.finished().sum() == 0.5


def test_sine_and_cosine_agree_with_radians_over_many_turns():
    turns = np.linspace(-3, 3, 1001)
    assert np.abs(sine(turns) - np.sin(2 * np.pi * turns)).max() < 1e-5
    assert np.abs(cosine(turns) - np.cos(2 * np.pi * turns)).max() < 1e-5
    assert direction(0.3) == pytest.approx((math.cos(0.6 * math.pi), math.sin(0.6 * math.pi)), abs=1e-5)


@pytest.mark.parametrize(
    ("turn", "expected"), [(0, (1, 0, 0)), (1 / 3, (0, 1, 0)), (2 / 3, (0, 0, 1)), (1, (1, 0, 0)), (1 / 6, (1, 1, 0))]
)
def test_hues_go_round_from_red_over_green_and_blue(turn, expected):
    assert hue(turn).tolist() == pytest.approx(expected, abs=1e-5)


def test_dyed_materials_are_told_apart_by_structure_and_not_by_hue():
    """The hue that a material has most often is the least of what the pictures of a class share."""
    for label in range(10):
        pictures = natural.materials(generator(7, label), np.full(30, label)).mean((1, 2))
        hottest = pictures.argmax(1)
        assert len(np.unique(hottest)) == 3


def test_noise_stays_within_0_and_1_and_varies():
    hills = noise(generator(0), 4, octaves=3)
    assert hills.min() >= 0
    assert hills.max() <= 1
    assert hills.std() > 0.05


def scene(*solids, pitch=0.05):
    """Solids as objects 1, 2, ... on black ground before a black sky, seen from 2 m."""
    made = Scene(
        camera=Camera(height=2.0, pitch=pitch),
        ground=lambda x, y: np.zeros((*x.shape, 3), np.float32),
        sky=(BLACK, BLACK),
    )
    for number, solid in enumerate(solids, 1):
        made.add(number, solid)
    return made


@pytest.mark.parametrize(
    "solid",
    [
        Ball((0.4, 6.0, 1.0), 1.0, WHITE),
        box((0.4, 6.0, 1.0), (1.5, 1.5, 2.0), WHITE, turn=0.1),
        prism((0.4, 6.0, 1.0), (1.5, 1.5, 2.0), WHITE),
        prism((0.4, 6.0, 1.0), (1.5, 1.5, 2.0), WHITE, top=0.1),
        prism((0.4, 6.0, 1.0), (1.5, 3.0, 2.0), WHITE, turn=0.2, axis=1),
    ],
    ids=["ball", "box", "cylinder", "cone", "lying cylinder"],
)
def test_a_solid_appears_around_the_projection_of_its_middle(solid):
    canvas, depth = scene(solid).render()
    rows, columns = np.nonzero(canvas.instances == 1)
    x, y, away = scene().camera.project([solid.centre])[0]
    assert ((columns + 0.5) / canvas.size).mean() == pytest.approx(x, abs=0.03)
    assert ((rows + 0.5) / canvas.size).mean() == pytest.approx(y, abs=0.07)
    assert depth[canvas.instances == 1].min() == pytest.approx(away - 0.9, abs=0.6)


def test_the_window_of_a_solid_cuts_nothing_off():
    solid = prism((0.8, 5.0, 0.7), (1.2, 1.2, 1.4), WHITE, turn=0.03, corners=8)
    made = scene(solid)
    near, _ = solid.hit(np.array([0, 0, 2.0], np.float32)[:, None, None], made.camera.rays(128))
    canvas, _ = made.render()
    assert (canvas.instances == 1).sum() == (near < 1e6).sum() > 200


def test_a_near_solid_hides_a_far_one_in_either_order():
    near, far = box((0, 5, 1), (1, 1, 2), WHITE), box((0, 9, 1), (1, 1, 2), WHITE)
    assert not (scene(near, far).render()[0].instances == 2)[60:].any()
    first = scene(near, far).render()[0].instances
    second = scene(far, near).render()[0].instances
    assert np.array_equal(first == 1, second == 2)


def test_the_ground_is_as_deep_as_the_camera_is_high():
    _, depth = scene(pitch=0.25).render()  # straight down
    assert np.allclose(depth, 2.0)


def test_a_solid_throws_its_shadow_away_from_the_sun():
    made = scene(Ball((0.0, 6.0, 0.8), 0.8, WHITE), pitch=0.09)
    made.ground = lambda x, y: np.ones((*x.shape, 3), np.float32)
    made.sun = (-1.0, 0.0, 1.0)
    canvas, _ = made.render()
    ground = canvas.instances == 0
    dark = np.nonzero(ground & (canvas.pixels[..., 0] < 0.9) & (canvas.pixels[..., 0] > 0.3))[1]
    assert dark.size > 100
    assert dark.mean() > canvas.size / 2


@pytest.mark.parametrize(("drawing", "classes"), DRAWINGS, ids=lambda value: getattr(value, "__name__", None))
def test_a_drawing_gives_one_picture_per_label_and_the_seed_fixes_it(drawing, classes):
    labels = np.array([0, classes - 1])
    pictures = drawing(generator(3, "x"), labels)
    assert pictures.shape == (2, 64, 64, 3)
    assert pictures.dtype == np.uint8
    assert pictures.std(axis=(1, 2, 3)).min() > 8
    assert np.array_equal(pictures, drawing(generator(3, "x"), labels))
    assert not np.array_equal(pictures, drawing(generator(4, "x"), labels))


def test_another_process_draws_the_same_pixels():
    program = (
        "import hashlib, numpy as np\n"
        "from petlbench.drawing import natural, specialized, structured\n"
        "from petlbench.drawing.canvas import generator\n"
        "parts = [draw(generator(1), np.arange(5)) for draw in (specialized.fields, structured.count)]\n"
        "parts.append(natural.digits(generator(1), np.arange(5)))\n"
        "print(hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest())\n"
    )
    found = {subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout}
    parts = [draw(generator(1), np.arange(5)) for draw in (specialized.fields, structured.count)]
    parts.append(natural.digits(generator(1), np.arange(5)))
    assert found == {hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest() + "\n"}


def test_what_the_camera_sees_is_where_it_looks():
    camera = Camera(height=6.0, pitch=0.17, focal=1.3)
    for height in (0.0, 0.7):
        x, y = camera.look(0.3, 0.8, height)
        assert camera.see(x, y, height)[:2] == pytest.approx((0.3, 0.8))


@pytest.mark.parametrize("objects", range(1, structured.MOST + 1))
def test_every_object_to_be_counted_is_in_full_view(objects):
    rng = generator(objects)
    for _ in range(4):
        canvas, _ = structured.table(rng, objects).render()
        numbers, pixels = np.unique(canvas.instances, return_counts=True)
        assert numbers.tolist() == list(range(objects + 1))
        assert pixels.min() >= 80  # of the 128 x 128: at least 20 finished pixels


@pytest.mark.parametrize("label", range(len(structured.DEPTHS) - 1))
def test_the_nearest_object_lies_in_the_depths_of_its_label_and_is_seen(label):
    rng = generator(label)
    for _ in range(4):
        canvas, depth = structured.street(rng, label).render()
        nearest = depth[canvas.instances == 1]
        assert nearest.size >= 60
        assert structured.DEPTHS[label] * 0.9 < nearest.min() < structured.DEPTHS[label + 1]
        others = depth[canvas.instances > 1]
        assert others.size == 0 or others.min() > nearest.min()
