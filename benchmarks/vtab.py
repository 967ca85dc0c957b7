"""VTAB-1K: 19 tasks of 1,000 training images each, in three groups."""

from petlbench.classification import Classification
from petlbench.method import Paper
from petlbench.suite import Task

# name: group, classes, test images, folder names of the field, where the images and labels come from
TASKS = {
    "cifar100": ("natural", 100, 10_000, ("cifar", "cifar100"), "objects, 32 x 32"),
    "caltech101": ("natural", 102, 6_084, ("caltech101",), "objects and a background class"),
    "dtd": ("natural", 47, 1_880, ("dtd",), "describable textures, official split 1"),
    "flowers102": ("natural", 102, 6_149, ("oxford_flowers102", "flowers102"), "Oxford flowers"),
    "pets": ("natural", 37, 3_669, ("oxford_iiit_pet", "oxford_pet"), "Oxford-IIIT cats and dogs"),
    "svhn": ("natural", 10, 26_032, ("svhn",), "house numbers, cropped"),
    "sun397": ("natural", 397, 21_750, ("sun397",), "scenes"),
    "patch_camelyon": ("specialized", 2, 32_768, ("patch_camelyon",), "lymph node sections"),
    "eurosat": ("specialized", 10, 5_400, ("eurosat",), "land use from Sentinel-2, RGB"),
    "resisc45": ("specialized", 45, 6_300, ("resisc45",), "scenes from above"),
    "diabetic_retinopathy": (
        "specialized",
        5,
        42_670,
        ("diabetic_retinopathy",),
        "fundus photographs, severity 0 to 4",
    ),
    "clevr_count": ("structured", 8, 15_000, ("clevr_count",), "number of objects, minus 3"),
    "clevr_dist": ("structured", 6, 15_000, ("clevr_dist",), "depth of the nearest object, binned"),
    "dmlab": ("structured", 6, 22_735, ("dmlab",), "distance and reward of what is ahead in a maze"),
    "kitti_dist": ("structured", 4, 711, ("kitti", "kitti_dist"), "distance of the nearest vehicle, binned"),
    "dsprites_loc": ("structured", 16, 73_728, ("dsprites_loc",), "x position of a sprite"),
    "dsprites_ori": ("structured", 16, 73_728, ("dsprites_ori",), "orientation of a sprite"),
    "smallnorb_azi": ("structured", 18, 12_150, ("smallnorb_azi",), "azimuth of a toy"),
    "smallnorb_ele": ("structured", 9, 12_150, ("smallnorb_ele",), "elevation of the camera over a toy"),
}


class VTAB(Classification):
    """Reads the folders that the field passes around. Facts after google-research/task_adaptation and NOAH's export."""

    paper = Paper(
        title="A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark",
        authors="Xiaohua Zhai and Joan Puigcerver and Alexander Kolesnikov and Pierre Ruyssen and Carlos Riquelme and "
        "Mario Lucic and Josip Djolonga and Andr{\\'e} Susano Pinto and Maxim Neumann and Alexey Dosovitskiy and "
        "Lucas Beyer and Olivier Bachem and Michael Tschannen and Marcin Michalski and Olivier Bousquet and "
        "Sylvain Gelly and Neil Houlsby",
        year=2019,
        arxiv="1910.04867",
        code="google-research/task_adaptation",
    )
    source = (
        "the packed folders are linked from the READMEs of ZhangYuanhan-AI/NOAH and dongzelian/SSF on GitHub and are "
        "XiN0919/VTAB-1k on Hugging Face; unpack them so that DIR/cifar/train800.txt exists, or make them with "
        "`petlbench data prepare vtab --from tfds`"
    )
    tasks = tuple(
        Task(name=name, group=group, classes=classes, test=test, folders=folders, note=note)
        for name, (group, classes, test, folders, note) in TASKS.items()
    )
