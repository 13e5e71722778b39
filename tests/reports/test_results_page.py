"""RESULTS.md: its tables are those of the CSVs, and are filled in from them."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

from src.errors import UserError
from src.reports.reproduction import TableRow
from src.reports.results_csv import ResultRow, read_rows, write_rows
from src.reports.results_page import BLOCK, fill
from tests.reports.test_reproduction import ROWS, SPEC
from tests.support.paths import ROOT

spec = importlib.util.spec_from_file_location("update_results", ROOT / "scripts" / "update_results.py")
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def test_the_page_is_up_to_date() -> None:
    script.main(["--check"])
    page = (ROOT / "RESULTS.md").read_text()
    assert {found[1] for found in BLOCK.findall(page)} >= {"runs", "classes"}


def test_tables_are_filled_from_the_csvs(tmp_path: Path) -> None:
    rows = read_rows(ROOT / "results" / "runs.csv", ResultRow)
    write_rows(tmp_path / "runs.csv", ResultRow, rows)
    (tmp_path / "tables").mkdir()
    write_rows(tmp_path / "tables" / "ladder.csv", TableRow, ROWS)
    name = rows[0].run
    page = f"a\n<!-- runs: {name} -->\nold\n<!-- end -->\nb\n<!-- table: ladder -->\n<!-- end -->\nc\n"
    text = fill(page, tmp_path, lambda _: SPEC)
    assert "old" not in text
    assert f"| {name} | {rows[0].miou:.4f} | {rows[0].pixel_accuracy:.4f} |" in text
    assert "| High | .5800, .6200 | .6000 |" in text
    assert re.sub(r"\|.*\n|\n.*Protocol.*", "", text).startswith("a\n<!-- runs")
    assert fill(text, tmp_path, lambda _: SPEC) == text


def test_all_evaluations_of_a_run_are_rows(tmp_path: Path) -> None:
    first, *others = read_rows(ROOT / "results" / "runs.csv", ResultRow)
    mirrored = replace(first, is_own=False, inference="whole at own size, flip", miou=0.7777)
    write_rows(tmp_path / "runs.csv", ResultRow, [first, *others, mirrored])
    text = fill(f"<!-- evaluations: {first.run} -->\n<!-- end -->", tmp_path, lambda _: SPEC)
    lines = [line for line in text.splitlines() if line.startswith(f"| {first.run} ")]
    assert [line.split(" | ")[1] for line in lines] == [f"{first.miou:.4f}", "0.7777"]
    assert "whole at own size, flip" in lines[1]


def test_a_run_that_was_never_collected_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run nowhere in runs\.csv; add it by scripts/collect_results\.py"):
        fill("<!-- runs: nowhere -->\n<!-- end -->", tmp_path, lambda _: SPEC)
    with pytest.raises(UserError, match=r"<!-- table: r3 -->: there is no .*r3.csv"):
        fill("<!-- table: r3 -->\n<!-- end -->", tmp_path, lambda _: SPEC)
