"""`src.reproduce`: every table composes, the plan, failures, and a table of real trainings."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from src.config.table_plan import plan_table, read_spec
from src.errors import UserError
from src.folds.reproduce import TablePlan, count_gflops
from src.runs.folder import RunFolder
from tests.support.compose import composed
from tests.support.paths import CONF
from tests.support.processes import finish, sessions

TABLES = sorted(path.stem for path in (CONF / "table").glob("[!_]*.yaml"))
SMALL_TABLE = ("table=r3", "reduced=false", "rows=[fcn,fcn_dice]", 'overrides=["scale=tiny","trainer.max_epochs=1"]')


def plan(*words: str) -> TablePlan:
    with composed("reproduce", *words) as cfg:
        return plan_table(cfg)


@pytest.mark.e2e  # two hundred compositions
@pytest.mark.parametrize("table", TABLES)
def test_every_table_composes_and_compares_lines_that_it_has(table: str, tmp_path: Path) -> None:
    found = plan(f"table={table}", f"data.root={tmp_path}")
    assert len(found.jobs) == 2 * len({job.row for job in found.jobs})
    words = found.jobs[0].commands[0]
    assert {"data=camvid", "inference.size=[72,96]", "seed=0", f"data.root='{tmp_path}'"} <= set(words)
    full = plan(f"table={table}", f"data.root={tmp_path}", "reduced=false")
    assert not [
        word for job in full.jobs for word in job.commands[0] if word.startswith(("trainer", "data=", "backbone"))
    ]
    assert full.folder.name == f"table-{table}-full"


def test_reported_figures_are_those_of_the_facts() -> None:
    """Figures of R1's ladder and of R3's table, as systems.md has them."""
    with composed("reproduce", "table=r1") as cfg:
        r1 = read_spec(yaml.safe_load(json.dumps(_plain(cfg))))
    assert [each["miou"] for each in r1.reported.values()] == [0.3192, 0.4519, 0.4113, 0.6139, 0.6067, 0.6167]
    with composed("reproduce", "table=r3") as cfg:
        r3 = read_spec(_plain(cfg))
    figures = [(100 * each["miou"], 100 * each["pixel_accuracy"]) for each in r3.reported.values()]
    expected = [
        (25.4, 83.1),
        (29.1, 88),
        (42.7, 91.1),
        (49.9, 92.1),
        (50, 92),
        (29.6, 87.1),
        (32.4, 83.6),
        (31.3, 86.1),
    ]
    assert figures == [pytest.approx(pair) for pair in expected]


def _plain(cfg) -> dict:
    from src.config.flat import to_dict

    return to_dict(cfg)["table"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "table is not set; give table=NAME, one of r0, r1, r2, r3, r4_networks, r4_study"),
        (["table=r3", "rows=[fc]"], "rows: there is no row fc; the table has fcn, resnet_deconv"),
        (["table=r3", "seeds=[0,0]"], r"seeds=\[0, 0\]: must be one or more different whole numbers"),
        (["table=r3", "seeds=[-1]"], "seeds=-1: must be a whole number, at least 0"),
        (["table=r3"], "data.root is not set; give data.root="),
        (
            ["table=r3", 'overrides=["seed=3"]'],
            "row fcn: seed=... is given by src.reproduce; leave it out of overrides",
        ),
        (["table=r3", 'overrides=["optimizer.rate=3"]'], "row fcn: .*optimizer.rate"),
        (["table=r3", "jobs=0"], "jobs=0: must be a whole number, at least 1"),
    ],
)
def test_what_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    place = [] if message.startswith("data.root") else [f"data.root={tmp_path}"]
    with pytest.raises(UserError, match=message):
        plan(*words, *place)


def test_stages_have_a_line_each(tmp_path: Path) -> None:
    spec = plan("table=r2", f"data.root={tmp_path}").spec
    assert spec.labels["separate/e30_50"] == "from the same fold, e30_50"
    assert spec.reported["aggregate/e70_90"] == {"miou": 0.587}


@pytest.mark.slow
def test_a_table_of_real_trainings(tmp_path: Path) -> None:
    """Trains two rows with two seeds; the second call trains nothing, and a lost run is the only one trained again."""
    words = ("src.reproduce", *SMALL_TABLE, f"runs={tmp_path}")
    finish(*words)
    folder = tmp_path / "table-r3-full"
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["seed"]) for row in rows] == [
        (line, seed) for line in ("fcn", "fcn_dice") for seed in "01"
    ]
    for row in rows:
        run = RunFolder(folder / f"{row['line']}-s{row['seed']}")
        assert float(row["miou"]) == run.read_results().own.miou
    table = (folder / "table.md").read_text()
    assert "| U-Net | not run |" in table
    assert "FCN, Dice against FCN" in table
    before = {path: path.read_bytes() for path in folder.glob("*/results.json")}
    lost = folder / "fcn-s1"
    lost.rename(tmp_path / "lost")
    finish(*words)
    assert len(sessions(RunFolder(folder / "fcn-s0"))) == 1
    assert {path: path.read_bytes() for path in folder.glob("*/results.json")} == before
    assert (folder / "table.md").read_text() == table
    run, found = RunFolder(folder / "fcn-s0"), plan(*SMALL_TABLE, f"runs={tmp_path}")
    small, large = (count_gflops(replace(found, cost=cost), run) for cost in ((32, 64), (64, 64)))
    assert large == pytest.approx(2 * small)
