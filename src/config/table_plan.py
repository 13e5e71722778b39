"""Plans the reproduction of a table: checks it, and composes the command of every row with every seed."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.checks import check_given
from src.config.flat import to_dict
from src.config.fold_plan import workers
from src.config.reopen import forget_weights
from src.config.resolvers import CONF
from src.config.saved import load_config
from src.config.words import quoted
from src.errors import UserError, whole
from src.files import check_name
from src.folds.reproduce import Job, TablePlan
from src.reports.reproduction import TableSpec
from src.runs.folder import RunFolder

DECIDED = ("seed", "name", "runs", "resume")  # keys of src.train that a table gives each run


def plan_table(cfg: DictConfig) -> TablePlan:
    """Plans all runs of a table.

    Raises:
        UserError: no table, an unknown row, seeds that are no numbers, a word that does not compose, missing data.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("src.reproduce is no job of a sweep (-m); call it once for each table")
    if "table" not in cfg:
        tables = [name for name in GlobalHydra.instance().config_loader().get_group_options("table") if name[0] != "_"]
        raise UserError(f"table is not set; give table=NAME, one of {', '.join(tables)}")
    content = to_dict(cfg)
    table, rows = content["table"], _choose_rows(content)
    seeds = table["seeds"] if content["seeds"] is None else content["seeds"]
    if not isinstance(seeds, list) or not seeds or len({whole("seeds", seed, 0) for seed in seeds}) < len(seeds):
        raise UserError(f"seeds={seeds}: must be one or more different whole numbers, such as [0,1]")
    choice = HydraConfig.get().runtime.choices["table"]
    suffix = "" if content["reduced"] else "-full"
    folder = Path(cfg.runs) / check_name("name", cfg.name or f"table-{choice}{suffix}")
    data = [] if content["data"]["root"] is None else [f"data.root={quoted(content['data']['root'])}"]
    jobs = []
    for name, row in rows.items():
        parts = ["overrides", "reduced"] if content["reduced"] else ["overrides"]
        given = {
            key: value for part in parts for level in (table, row) for key, value in (level.get(part) or {}).items()
        }
        words = [f"{key}={value}" for key, value in given.items() if value is not None] + data + content["overrides"]
        _check(name, row.get("command", "src.train"), words)
        for seed in seeds:
            run = folder / f"{name}-s{seed}"
            train = [row.get("command", "src.train"), *words, f"seed={seed}", f"runs={quoted(folder)}"]
            commands = [[*train, f"name={run.name}"]]
            commands += [["src.eval", f"run={quoted(run)}", f"split={split}", *data] for split in table["splits"]]
            jobs.append(Job(name, seed, run, commands))
    devices = workers("", content["devices"], content["jobs"])
    cost = None if table["cost"] is None else tuple(table["cost"])
    return TablePlan(folder, read_spec(table), jobs, devices, cost, build_network)


def _choose_rows(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the rows that the command line asks for."""
    rows, wanted = content["table"]["rows"], content["rows"]
    if wanted is None:
        return rows
    if unknown := [name for name in wanted if name not in rows]:
        raise UserError(f"rows: there is no row {unknown[0]}; the table has {', '.join(rows)}")
    return {name: rows[name] for name in wanted}


def _check(row: str, command: str, words: list[str]) -> None:
    """Raises UserError if the words of a row do not compose, or leave out what must be given."""
    keys = {word.lstrip("+~").partition("=")[0] for word in words}
    if decided := sorted(keys & set(DECIDED)):
        raise UserError(f"row {row}: {decided[0]}=... is given by src.reproduce; leave it out of overrides")
    try:
        check_given(compose(command.rpartition(".")[2], words))
    except HydraException as error:
        raise UserError(f"row {row}: {' '.join(str(error).split())[:300]}") from error


def read_table(name: str) -> TableSpec:
    """Reads a table of `conf/table` by its name, outside of a command."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return read_spec(to_dict(compose("reproduce", [f"table={name}"]))["table"])


def read_spec(table: dict[str, Any]) -> TableSpec:
    """Reads names and reported figures of the lines: one per row, or one per stage of a row that trains in stages."""
    labels: dict[str, str] = {}
    reported: dict[str, dict[str, float]] = {}
    for name, row in table["rows"].items():
        figures = row.get("reported") or {}
        stages = row.get("stages")
        for key, label, found in (
            [(name, row["label"], figures)]
            if stages is None
            else [(f"{name}/{stage}", f"{row['label']}, {stage}", figures.get(stage) or {}) for stage in stages]
        ):
            labels[key], reported[key] = label, found
    pairs = tuple((first, second) for first, second in table["compare"])
    if unknown := [name for pair in pairs for name in pair if name not in labels]:
        raise UserError(f"table.compare: there is no line {unknown[0]}; the table has {', '.join(labels)}")
    return TableSpec(table["title"], table["report"], labels, reported, pairs)


def build_network(run: RunFolder) -> Any:
    """Builds the network of a run, with random weights."""
    network = load_config(run.config).task.network
    forget_weights(network)
    return instantiate(network, _convert_="all")
