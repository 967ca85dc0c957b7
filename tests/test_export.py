"""What a run has trained can be given away, and one call gives it back: on the right backbone, or not at all."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace as with_
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import petlbench
from petlbench import cli, kept, spec, worker, zoo
from petlbench.errors import InputError
from petlbench.export import export, read_card, restore
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.trial import Normalize

TINY = str(Path(__file__).parent / "tiny.py")
RequestFor = Callable[..., Request]
Train = Callable[..., Record]

SEARCHED = {
    "e2vpt": "e2vpt(tokens=4, prune_tokens=(0.5,), prune_segments=(8,))",
    "noah": "noah(supernet_epochs=1, generations=1, population=2, parents=1, crossovers=1, mutations=1, limit=9999999)",
}


@pytest.fixture
def train(request_for: RequestFor) -> Train:
    """Train a method on a task of the tiny suite and keep what it has trained."""

    def work(methods: str, **options: object) -> Record:
        options = {"tasks": ("day",), "weights": "pretrained", "save_weights": True} | options
        return worker.work(plan(request_for(methods, **options))[0].job)

    return work


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is in order."""
    root = tmp_path_factory.mktemp("exported")
    overrides = {"epochs": 1, "batch_size": 8}
    request = Request(
        methods=spec.parse("lora"),
        suite=TINY,
        tasks=("day",),
        data_root=tiny.write(root / "data"),
        results=root / "results",
        overrides=overrides,
        save_weights=True,
    )
    export(worker.work(plan(request)[0].job), root / "results", root / "out", files=[TINY])
    return root / "out"


def score(folder: Path, record: Record, data: Path, files: Sequence[str] = (TINY,)) -> float:
    """The accuracy of a restored network on the test images."""
    encoder, head = restore(folder, files=files)
    suite = zoo.suite(TINY)()
    images, labels = suite.data(suite.task("day"), "test", data / "day", record.run.framing).all()
    outputs: Tensor = head(encoder(Normalize(record.run.backbone)(images)))
    return dict(suite.score(outputs, labels))["accuracy"]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("method", ["lora", "vpt(tokens=2)", "linear", "hst", *SEARCHED.values()])
def test_a_restored_network_scores_as_the_run_did(
    train: Train, tmp_path: Path, data: Path, method: str, folded: bool
) -> None:
    record = train(method)
    assert (record.status, record.reason) == ("done", "")
    export(record, tmp_path / "results", tmp_path / "out", folded=folded, files=[TINY])
    assert score(tmp_path / "out", record, data) == record.scores["accuracy"]


LOOKS = '''"""A method whose start depends on the values of the weights it is built into."""
from dataclasses import dataclass
import torch
from torch import nn
from petlbench import Encoder, Method, ViT

class Scaled(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.full((1,), 1 + float(layer.weight.detach().norm())))
    def forward(self, tokens):
        return self.layer(tokens) * self.scale

@dataclass(frozen=True, kw_only=True)
class Looks(Method):
    def attach(self, vit: ViT) -> Encoder:
        vit.blocks[0].mlp.fc2 = Scaled(vit.blocks[0].mlp.fc2)
        return vit
'''


def test_a_method_of_your_own_may_look_at_the_weights_it_is_built_into(
    train: Train, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "looks.py"
    file.write_text(LOOKS)
    record, files, out = train(str(file)), [TINY, str(file)], tmp_path / "out"
    assert (record.status, record.reason) == ("done", "")
    export(record, tmp_path / "results", out, files=files)
    assert score(out, record, data, files) == record.scores["accuracy"]
    monkeypatch.setattr("petlbench.export.MOST", 1000)
    with pytest.raises(InputError, match="would need a network of more than 1,000 weights"):
        restore(out, files=files)


def test_a_restored_network_is_ready_for_inference_and_disturbs_no_random_state(exported: Path) -> None:
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    encoder, head = petlbench.restore(exported, files=[TINY])
    assert (torch.rand(1), random.random(), np.random.rand()) == expected
    assert not encoder.training
    assert not any(weight.requires_grad for part in (encoder, head) for weight in part.parameters())


def test_what_is_exported_is_what_was_trained_and_when_folded_all_of_it(train: Train, tmp_path: Path) -> None:
    record = train("lora(rank=2)")
    small, large = tmp_path / "small", tmp_path / "large"
    card = export(record, tmp_path / "results", small, files=[TINY])
    export(record, tmp_path / "results", large, folded=True, files=[TINY])
    assert record.counts is not None
    trained = load_file(small / "weights.safetensors")
    assert sum(value.numel() for value in trained.values()) == record.counts.trainable_parameters
    whole = load_file(large / "weights.safetensors")
    assert not any("lora" in name.lower() for name in whole)
    assert sum(value.numel() for value in whole.values()) > 1_000_000
    assert (card.run, card.scores) == (record.run, record.scores)
    text = (small / "README.md").read_text()
    for part in ("lora(rank=2)", "petlbench run --methods", "Apache-2.0", record.run.backbone.sha256, card.sha256):
        assert str(part) in text


def test_weights_of_an_own_file_are_asked_for_and_checked(train: Train, tmp_path: Path) -> None:
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    for number, file in enumerate((own, other)):
        torch.manual_seed(number)
        save_file(petlbench.backbone.build("mini", "random").model.state_dict(), file)
    record = train("lora", weights=str(own))
    export(record, tmp_path / "results", tmp_path / "out", weights=own, files=[TINY])
    restore(tmp_path / "out", weights=own, files=[TINY])
    with pytest.raises(InputError, match=r"weights came from own\.safetensors: say where it is, weights=FILE"):
        restore(tmp_path / "out", files=[TINY])
    with pytest.raises(InputError, match="the backbone is another one than that which these weights were trained on"):
        restore(tmp_path / "out", weights=other, files=[TINY])


def test_a_random_backbone_comes_back_from_its_seed(train: Train, tmp_path: Path, data: Path) -> None:
    record = train("lora", weights="random", seeds=(3,))
    export(record, tmp_path / "results", tmp_path / "out", files=[TINY])
    assert score(tmp_path / "out", record, data) == record.scores["accuracy"]
    card = json.loads((tmp_path / "out/card.json").read_text())
    card["run"]["seed"] = 4
    (tmp_path / "out/card.json").write_text(json.dumps(card))
    with pytest.raises(InputError):
        restore(tmp_path / "out", files=[TINY])


def _card(**changes: object) -> Callable[[Path], None]:
    """Change fields of the card's run; `backbone_name` and the like those of its backbone."""

    def damage(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        for name, value in changes.items():
            part, _, rest = name.partition("_")
            if part == "backbone":
                card["run"]["backbone"][rest] = value
            else:
                card["run"][name] = value
        content = (folder / "weights.safetensors").read_bytes()
        old = read_card(folder).run.key
        (folder / "card.json").write_text(json.dumps(card))
        content = content.replace(old.encode(), read_card(folder).run.key.encode())  # as a forger would
        (folder / "weights.safetensors").write_bytes(content)
        card["sha256"] = kept.hashlib.sha256(content).hexdigest()
        (folder / "card.json").write_text(json.dumps(card))

    return damage


def _cut(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _flip(folder: Path) -> None:
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "weights.safetensors: holds no weights of petlbench, or is damaged"),
        (_flip, "weights.safetensors: is not the file that card.json was written for"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json: not a card of petlbench"),
        (lambda folder: (folder / "card.json").unlink(), "card.json: No such file or directory"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors: No such file or directory"),
        (_card(method="./evil.py"), "method './evil.py' is not in the zoo"),
        (_card(method="vpt", fields={}), "not weights of this method on this backbone"),
        (_card(fields={"rank": 9}), "not weights of this method on this backbone"),
        (_card(fields={"rank": 10**9}), "rank is beyond 4096"),
        (_card(backbone_name="mini(depth=1000000)"), "depth is beyond 128"),
        (_card(backbone_name="mini(depth=200)"), "depth is beyond 128"),
        (_card(backbone_name="mini(embed_dim=4096, depth=20)"), "would need a network of more than 4,000,000,000"),
        (_card(backbone_image_size=128), "the backbone is another one"),
        (_card(backbone_name="vit_nothing"), "backbone 'vit_nothing' cannot be built"),
        (_card(backbone_weights="random"), "the backbone is another one"),
        (_card(task="dawn"), "unknown task 'dawn'"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused_in_one_line(
    exported: Path, tmp_path: Path, damage: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('sprung', 'w')")
    damage(shutil.copytree(exported, tmp_path / "out"))
    with pytest.raises(InputError) as refusal:
        restore(tmp_path / "out", files=[TINY])
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not Path("sprung").exists()


def test_a_run_that_was_not_kept_or_has_failed_cannot_be_exported(train: Train, tmp_path: Path) -> None:
    record = train("lora", save_weights=False)
    with pytest.raises(InputError, match="its weights were not kept; train it again with: run --save-weights"):
        export(record, tmp_path / "results", tmp_path / "out")
    with pytest.raises(InputError, match="failed, so there is nothing to export"):
        export(with_(record, status="failed"), tmp_path / "results", tmp_path / "out")


def test_a_disk_that_is_full_costs_the_weights_and_not_the_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write", full)
    record = train("linear")
    assert record.status == "done"
    assert record.scores
    assert record.reason == "its weights were not kept: OSError: [Errno 28] No space left on device"


def test_the_command_writes_the_folder_and_says_how_to_read_it(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = train("linear")
    rest = ["--results", str(tmp_path / "results"), "--files", TINY, "--out", str(tmp_path / "out")]
    assert cli.main(["export", record.run.key[:8], *rest]) == 0
    assert "encoder, head = petlbench.restore(" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"card.json", "weights.safetensors", "README.md"}
    assert cli.main(["export", str(tmp_path / "results" / record.run.path), *rest]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert cli.main(["export", "nothing", *rest]) == 2
    assert "run nothing: there is no such record below" in capsys.readouterr().err
