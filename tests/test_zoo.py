"""Finding methods and suites by the name of their file."""

from pathlib import Path

import pytest

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.run import portable

ROOT = Path(__file__).parent.parent

OWN = '''"""Mine: nothing new."""
from dataclasses import dataclass
from petlbench import Encoder, Method, ViT

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    strength: int = 3
    def attach(self, vit: ViT) -> Encoder:
        return vit
'''


@pytest.mark.parametrize(("names", "folder"), [(zoo.methods, "methods"), (zoo.suites, "benchmarks")])
def test_the_files_are_the_names(names: object, folder: str) -> None:
    files = {file.stem for file in (ROOT / folder).glob("*.py") if not file.name.startswith("_")}
    variants = set(zoo.families()) if folder == "methods" else set()
    assert set(names()) | variants == files  # type: ignore[operator]


def test_every_file_says_in_one_line_what_it_is() -> None:
    for name in [*zoo.methods(), *zoo.families()]:
        assert len(zoo.summary(zoo.METHODS, name)) > 20, name
    for name in zoo.suites():
        assert len(zoo.summary(zoo.BENCHMARKS, name)) > 20, name


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown method 'lorra': did you mean lora or lorand\? valid: "):
        zoo.method("lorra")
    with pytest.raises(InputError, match=r"unknown suite 'minni': did you mean mini\? valid: "):
        zoo.suite("minni")


def test_a_method_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a folder" / "mïne.py"
    file.parent.mkdir()
    file.write_text(OWN, encoding="utf-8")
    assert zoo.method(str(file))().strength == 3  # type: ignore[attr-defined]
    assert zoo.name_of(str(file)) == "mïne"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must define exactly one Method, it defines none"),
        (OWN + OWN.replace("class Mine", "class Yours"), "must define exactly one Method, it defines Mine, Yours"),
        ("import nonexistent_module", "cannot be imported: ModuleNotFoundError: No module named 'nonexistent_module'"),
        ("def broken(:", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_method_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(InputError, match=said) as refusal:
        zoo.method(str(file))
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"method '\./nothing\.py': no such file"):
        zoo.method("./nothing.py")


SEVERAL = (
    OWN
    + """
def variant(name: str) -> type[Method]:
    return dataclass(frozen=True, kw_only=True)(type(name, (Mine,), {"__module__": __name__}))
"""
)


def test_a_file_may_hold_variants_behind_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SEVERAL)
    assert zoo.method(f"{file}:big").__name__ == "big"
    assert zoo.name_of(f"{file}:big") == "mine:big"
    assert zoo.is_path(f"{file}:big")
    assert zoo.home(zoo.METHODS, f"{file}:big") == f"{zoo.FILES}.mine"
    with pytest.raises(InputError, match=r"comes in variants: write .*mine\.py:NAME"):
        zoo.method(str(file))


def test_a_file_without_variants_says_so() -> None:
    with pytest.raises(InputError, match="method 'lora:big': lora has no variants; valid: lora"):
        zoo.method("lora:big")


def test_a_variant_is_known_by_its_file_and_has_no_colon_in_paths() -> None:
    assert "peft" in zoo.families()
    assert "peft" not in zoo.methods()
    assert zoo.is_known(zoo.METHODS, "peft:dora")
    assert not zoo.is_known(zoo.METHODS, "left:dora")
    assert portable("peft:dora") == "peft-dora"
