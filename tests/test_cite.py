"""`petlbench cite`: BibTeX of what a table is made of, each entry once, under the keys that the table cites."""

import re
from pathlib import Path

import pytest
from recorded import record
from test_table_command import fill

from petlbench import cli


def cite(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    """Exit code, keys, and everything that was printed."""
    code = cli.main(["cite", *map(str, arguments)])
    out, errors = capsys.readouterr()
    return code, re.findall(r"^@\w+\{([^,]+),$", out, re.MULTILINE), out + errors


def test_measured_methods_and_their_suite_are_cited_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["hst", "vpt", "vpt(tokens=50)", "linear"]
    fill(tmp_path, [record(label, "dtd", 70, suite="vtab") for label in labels])
    code, keys, out = cite(capsys, "--results", tmp_path)
    assert code == 0
    assert keys == ["zhai2019largescale", "lin2023hierarchical", "jia2022visual"]
    assert out.endswith("\n% no entry: linear\n")
    _, keys, _ = cite(capsys, "--results", tmp_path, "--methods", "vpt")
    assert keys == ["zhai2019largescale", "jia2022visual"]


def test_published_rows_cite_their_methods_and_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--suite", "vtab", "--with", "published=hst,vfpt", "--methods", "hst,vpt_deep,e2vpt,vfpt"]
    code, keys, out = cite(capsys, "--results", "nowhere", *choice)
    assert code == 0
    assert set(keys) == {
        "zhai2019largescale",
        "lin2023hierarchical",
        "jia2022visual",
        "han2023e2vpt",
        "zeng2024visual",
    }
    assert len(keys) == 5  # HST is a method and a source
    assert "% no entry: vfpt\n" in out


def test_every_key_of_the_latex_has_an_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, [record("hst", "dtd", 70, suite="vtab")])
    choice = ["--results", str(tmp_path), "--with", "published"]
    cli.main(["table", *choice, "--format", "latex"])
    cited = set(re.findall(r"\\cite\{([^}]+)\}", capsys.readouterr().out))
    _, keys, _ = cite(capsys, *choice)
    assert len(cited) == 15
    assert cited <= set(keys)
    assert len(keys) == len(set(keys))


def test_the_entries_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, out = cite(
        capsys, "--results", "nowhere", "--suite", "vtab", "--with", "published=pace", "--out", tmp_path / "a.bib"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'a.bib'}\n")
    assert "  title = {{{PACE}: Marrying Generalization in " in (tmp_path / "a.bib").read_text(encoding="utf-8")


def test_without_records_and_sources_there_is_nothing_to_cite(capsys: pytest.CaptureFixture[str]) -> None:
    code, keys, out = cite(capsys, "--results", "nowhere")
    assert (code, keys) == (2, [])
    assert out == "petlbench: --results nowhere: no records there yet; `petlbench run` makes them\n"
