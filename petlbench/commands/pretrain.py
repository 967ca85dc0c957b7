"""petlbench pretrain: make the weights of the embedded backbone again, or others in another way."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands
    from petlbench.pretraining import Trainer

EPILOG = """examples:
  petlbench pretrain --images 100000 --out trial      weights in trial/mini.safetensors, from the first minute on
  petlbench run --methods linear --suite mini --weights trial/mini.safetensors

  petlbench pretrain --objective mim --backbone 'mini(embed_dim=256, depth=8)' --out large
  petlbench pretrain --objective distill --teacher large/mini-mim.safetensors --out small
  petlbench run --methods linear,full --suite mini --weights small/mini-distill.safetensors

  petlbench pretrain --backbone 'swin_tiny_patch4_window7_224(embed_dim=48, depths=(2,2,2,1))' --out swin
  petlbench run --methods linear --suite mini --image-size 64 --weights swin/swin_tiny_patch4_window7_224.safetensors \
    --backbone 'swin_tiny_patch4_window7_224(embed_dim=48, depths=(2,2,2,1))'

Weights, card (.json), log, checkpoint and, in the end, curves.png lie in --out. Objectives:
supervised(label_smoothing, sketch), mim(mask), distill(mask, attention, features).
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="pre-train a small backbone on generated pictures",
        description="Pre-train a small backbone on generated pictures. Without options, this is the training behind "
        "the weights that come with the package; their card, mini.json, says how long it took.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--objective",
        default="supervised(sketch=10.0)",
        metavar="NAME[(FIELD=VALUE,...)]",
        help="supervised: name the class and, with sketch, draw where the ink is (default: %(default)s); mim: paint "
        "masked patches; distill: that, and look where a teacher looks",
    )
    parser.add_argument(
        "--backbone",
        default="mini",
        metavar="NAME",
        help="mini, or any ViT or Swin of timm, at 64 x 64 pixels (default: mini)",
    )
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="weights of an earlier pre-training, beside their card, to distill"
    )
    parser.add_argument(
        "--images", type=int, default=2_200_000, metavar="N", help="pictures, in whole batches (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="pictures per step (default: 64)")
    parser.add_argument("--lr", type=float, default=1e-3, metavar="X", help="peak learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16", help="arithmetic (default: bf16)")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of torch (default: 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pretrained"),
        metavar="DIR",
        help="for weights, card and log (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    import torch

    from petlbench.figures import pretraining
    from petlbench.pretraining import Pretraining, Trainer

    torch.set_num_threads(shared.threads(options.threads))
    names = ("objective", "backbone", "images", "batch_size", "lr", "seed", "precision")
    recipe = Pretraining(**{name: getattr(options, name) for name in names})
    trainer = Trainer(recipe, options.out, options.teacher, shared.device(options.device))
    if options.resume:
        trainer.resume()
    try:
        with _progress(trainer) as report:
            trainer.run(report)
    except KeyboardInterrupt:
        kept = f"{trainer.kept:,} pictures are kept in {options.out}; --resume goes on from there"
        print(f"petlbench: interrupted: {kept if trainer.kept else 'nothing to keep yet'}", file=sys.stderr)
        return 130
    pretraining.draw(trainer.log, trainer.learner.measure == "accuracy", options.out / "curves.png")
    print(trainer.weights)
    return 0


@contextmanager
def _progress(trainer: Trainer) -> Iterator[Callable[[str], None]]:
    """Something to report lines to; on a terminal a bar stays below them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield say
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "left:", TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        whole = bar.add_task("", total=trainer.recipe.steps, completed=trainer.step)

        def report(line: str) -> None:
            say(line)
            bar.update(whole, completed=trainer.step)

        yield report
