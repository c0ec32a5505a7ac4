"""Generated data files are read as an independent reader reads them, or refused. `make fuzz` runs thousands more."""

import ast
from pathlib import Path

import pytest

import file_fuzz
from generated_files import PAIRS, make_case
from undone_mends import FAULTS

HELPERS = Path(__file__).parents[1] / "helpers"
SEEDS = range(180)
TOGETHER = 20  # seeds per test


@pytest.mark.slow
@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
def test_generated_files_are_read_as_they_are_or_refused(tmp_path, first):
    found = [file_fuzz.findings_of(seed, tmp_path / str(seed)) for seed in SEEDS[first : first + TOGETHER]]
    assert not [f"{case}: {line}" for case, lines in found for line in lines]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_generated_files_found_stays_mended(tmp_path, fault):
    case, found = file_fuzz.findings_of(FAULTS[fault].seed, tmp_path)
    assert not found, str(case)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_again_by_its_files_when_its_mend_is_undone(tmp_path, monkeypatch, fault):
    FAULTS[fault].undo(monkeypatch)
    assert file_fuzz.findings_of(FAULTS[fault].seed, tmp_path)[1]


def test_every_pair_of_types_in_every_role_has_a_seed():
    seeds = [seed for seed in range(len(PAIRS) * 4 // 3) if seed % 4 < 3]
    cases = [make_case(seed) for seed in (seeds[0], seeds[1], seeds[-1])]
    assert len(seeds) == len(set(PAIRS)) == len(PAIRS) == 6 * 27**2
    assert [case.notes[0] for case in cases] == ["{}: {} then {}".format(*PAIRS[i]) for i in (0, 1, -1)]


def test_a_seed_always_gives_the_same_files():
    for seed in range(40):
        first, second = make_case(seed), make_case(seed)
        assert [first.path_of(file) for file in first.files] == [second.path_of(file) for file in second.files]
        assert [file.content() for file in first.files] == [file.content() for file in second.files]


@pytest.mark.parametrize("name", ["generated_files", "independent_reader"])
def test_what_files_say_is_read_without_duckdb_and_without_the_project(name):
    tree = ast.parse((HELPERS / f"{name}.py").read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {module.split(".")[0] for module in modules} & {"duckdb", "scarcegan"}


def test_a_finding_is_printed_with_its_seed_and_its_files_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_fuzz, "compare", lambda case, said, read: ["0.4 becomes 0"] if case.seed == 5 else [])
    assert file_fuzz.main(["--cases", "3", "--seed", "4", "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "seed 5: " in printed and "0.4 becomes 0" in printed and "make fuzz CASES=1 SEED=5" in printed
    assert [path.name for path in Path(file_fuzz.KEPT).iterdir()] == ["5"]
    assert any(path.is_file() for path in (file_fuzz.KEPT / "5").rglob("*"))
    assert file_fuzz.main(["--cases", "1", "--seed", "4", "--workers", "1"]) == 0
