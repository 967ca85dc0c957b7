"""FGVC: five data sets of birds, flowers, dogs and cars whose classes look alike, in the splits of VPT."""

from petlbench.classification import Classification
from petlbench.method import Paper
from petlbench.suite import Task

# name: classes, images in train.json, val.json and test.json, folder names of the field, where the images come from
TASKS = {
    "cub": (200, 5_394, 600, 5_794, ("CUB_200_2011",), "birds, Caltech-UCSD Birds-200-2011"),
    "nabirds": (555, 21_536, 2_393, 24_633, (), "birds of North America, NABirds of Cornell"),
    "flowers": (102, 1_020, 1_020, 6_149, ("OxfordFlowers", "OxfordFlower", "oxford_flowers"), "Oxford 102 Flowers"),
    "dogs": (120, 10_800, 1_200, 8_580, ("StanfordDogs", "stanford_dogs"), "breeds, Stanford Dogs"),
    "cars": (196, 7_329, 815, 8_041, ("StanfordCars", "stanford_cars"), "makes and models, Stanford Cars"),
}


class FGVC(Classification):
    """Reads the original folders with VPT's lists train.json, val.json and test.json beside the images.

    The final training sees train and val. Train and val together are the official training sets (5,994; 23,929; 2,040;
    12,000; 8,144 images). The network sees the middle of an image, its shorter side resized to 8/7 of the input
    size; random crops and flips, with which VPT and HST train, are fields of the recipe and are taken from that middle.
    """

    paper = Paper(
        title="Visual Prompt Tuning",
        authors="Menglin Jia and Luming Tang and Bor-Chun Chen and Claire Cardie and Serge Belongie and "
        "Bharath Hariharan and Ser-Nam Lim",
        year=2022,
        arxiv="2203.12119",
        code="KMnP/vpt",
    )
    resize = "crop"
    source = (
        "each data set has its own home page, train.json, val.json and test.json are linked from the README "
        "of KMnP/vpt on GitHub; put them so that DIR/CUB_200_2011/train.json and images/ exist (docs/data.md)"
    )
    tasks = tuple(
        Task(
            name=name,
            group="fine-grained",
            classes=classes,
            train=train + val,
            val=val,
            test=test,
            folders=folders,
            note=note,
        )
        for name, (classes, train, val, test, folders, note) in TASKS.items()
    )
