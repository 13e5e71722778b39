"""What yaml cannot express: checks, the resolved config that a run is rebuilt from, run names, one-line errors.

Nothing here imports torch, so that a wrong value is answered in about a second.
"""

import difflib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.files import write_text
from src.run import RunFolder

CONF = Path(__file__).parents[1] / "conf"
FULL_ERROR = "HYDRA_FULL_ERROR"
AS_RUN = "run"  # in eval.yaml and predict.yaml: the value that the run had
WORKER = "in DataLoader worker process"
RUN_VARIABLE = "STREETSEG_RUN"  # set by rank 0 for the processes that Lightning starts
# What does not change the result: a run may be continued with other values of these. The place of the data is among
# them, because data.fingerprint stands for its content.
VOLATILE = (
    "name", "resume", "runs", "run_dir", "choices", "logger", "data.root", "data.num_workers",
    "trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps", "callbacks.panels",
)  # fmt: skip

OmegaConf.register_new_resolver("len", len)
OmegaConf.register_new_resolver("digest", lambda value: _digest(list(value)))


def launch(function: Callable[[DictConfig], Any], config_name: str) -> None:
    """Composes `conf/<config_name>.yaml` with the command line and calls `function`.

    What a user can mend (ValueError, and everything Hydra says of the command line) is told in one line, exit status 1;
    HYDRA_FULL_ERROR=1 shows the traceback.
    """
    full = os.environ.get(FULL_ERROR)
    told: list[Exception] = []

    def tell(error: Exception) -> bool:
        if full != "1" and error not in told and (message := _user_message(error, config_name)):
            print(f"error: {message}", file=sys.stderr, flush=True)
            told.append(error)
        return error in told

    @functools.wraps(function)
    def job(cfg: DictConfig) -> Any:
        with _environment(FULL_ERROR, full):
            try:
                return function(cfg)
            except Exception as error:
                if tell(error) and HydraConfig.get().mode == RunMode.RUN:
                    sys.exit(1)
                raise  # to Hydra, which lets the other jobs of a sweep run, and raises this at their end

    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)
    try:
        # Hydra prints its errors, at length, and exits, unless this is set; then it raises them.
        with _environment(FULL_ERROR, "1"):
            main()
    except Exception as error:
        if not tell(error):
            raise
        sys.exit(1)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """An environment variable set (or, by None, unset) for a while."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def complete(cfg: DictConfig) -> DictConfig:
    """Fills in what the data and the command line decide, and checks the rest.

    Raises:
        ValueError: a missing value, missing data, a backbone for a network without one, a value out of range.
    """
    choices = HydraConfig.get().runtime.choices
    cfg.choices = {group: choices[group] for group in ("data", "model", "backbone", "experiment") if choices.get(group)}
    _check_given(cfg)
    if "backbone" not in cfg.model:
        if named := [text for text in HydraConfig.get().overrides.task if text.startswith("backbone")]:
            raise ValueError(f"{named[0]}: model={choices['model']} has no backbone to choose; leave it out")
        cfg.backbone = None
        cfg.choices.pop("backbone", None)
    dataset = instantiate(cfg.data.dataset)
    samples = {split: dataset.samples(split) for split in ("train", "val")}
    cfg.data.classes = {name: list(colour) for name, colour in dataset.classes.items()}
    cfg.data.fingerprint = _digest([dataset.labels, {split: [s.name for s in samples[split]] for split in samples}])
    _check_ranges(cfg)
    return cfg


def _check_ranges(cfg: DictConfig) -> None:
    positive = {"data.batch_size": 1, "data.eval_batch_size": 1, "trainer.max_epochs": 1, "seed": 0}
    for key, least in positive.items():
        value = OmegaConf.select(cfg, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}={value}: must be a whole number, at least {least}")
    workers = cfg.data.num_workers
    if workers != "auto" and (not isinstance(workers, int) or workers < 0):
        raise ValueError(f"data.num_workers={workers}: must be auto or a whole number, at least 0")
    for key in ("data.crop_size", "inference.size", "inference.window"):
        value = OmegaConf.select(cfg, key)
        if value is not None and (len(value) != 2 or not all(isinstance(side, int) and side > 0 for side in value)):
            raise ValueError(f"{key}={value}: must be [HEIGHT,WIDTH] in pixels")
    if not 0 <= cfg.inference.overlap < 1:
        raise ValueError(f"inference.overlap={cfg.inference.overlap}: must be at least 0 and below 1")
    if not cfg.inference.scales or min(cfg.inference.scales) <= 0:
        raise ValueError(f"inference.scales={list(cfg.inference.scales)}: must be one or more factors above 0")


def open_run(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """The folder of this run, its own where the same command made one, else a new one; and the config, resolved.

    Raises:
        ValueError: the folder holds a run of another configuration, or another process trains in it.
    """
    inherited = os.environ.get(RUN_VARIABLE)
    path = Path(inherited or Path(cfg.runs) / (cfg.name or _derive_name(cfg)))
    if not cfg.resume and not inherited:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise ValueError("resume=false: under torchrun every rank would choose a folder; give name=... instead")
        path = _first_free(path)
    cfg.run_dir = str(path)
    run, cfg = RunFolder(path), OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    if inherited or os.environ.get("RANK", "0") != "0":
        return run, cfg  # the first process has made the folder, or is about to
    if run.config.is_file():
        _check_same(cfg, run)
    else:
        write_text(run.config, OmegaConf.to_yaml(cfg))
    return run, cfg


def load_run(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """The run folder `cfg.run` and the config it was made with, under the protocol changes that `cfg` asks for.

    Raises:
        ValueError: no run folder there (names the nearest), no such checkpoint, a value out of range.
    """
    _check_given(cfg)
    run = RunFolder(Path(cfg.run))
    if not run.config.is_file():
        siblings = [path.parent.name for path in run.path.parent.glob("*/config.yaml")]
        near = difflib.get_close_matches(run.path.name, siblings, 3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"run={cfg.run}: no run folder there (no config.yaml){hint}")
    run.checkpoint(cfg.checkpoint)
    config = OmegaConf.load(run.config)
    for key, value in cfg.inference.items():
        if value != AS_RUN:
            config.task.inference[key] = config.inference[key] = value
    if cfg.precision != AS_RUN:
        config.trainer.precision = cfg.precision
    if config.backbone is not None:
        # The checkpoint has them all; the network need not fetch those it once started from.
        config.task.network.architecture.backbone.weights = None
    _check_ranges(config)
    return run, config


def _check_given(cfg: DictConfig) -> None:
    for key, value in _flatten(OmegaConf.to_container(cfg)).items():
        if value == "???":
            raise ValueError(f"{key} is not set; give {key}=... on the command line")


def one_process_per_job(cfg: DictConfig) -> bool:
    """Whether this is a job of a sweep that wants several devices: Lightning's children would replay the whole sweep."""
    devices = cfg.trainer.devices
    return HydraConfig.get().mode == RunMode.MULTIRUN and (devices == "auto" or devices not in (1, "1", [0]))


def identity(cfg: DictConfig) -> dict[str, Any]:
    """The values that make a run what it is, by dotted key."""
    flat = _flatten(OmegaConf.to_container(cfg, resolve=True))
    here = str(cfg.run_dir)
    return {
        key: "run_dir" + value.removeprefix(here) if isinstance(value, str) and value.startswith(here) else value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in (*VOLATILE, "data.dataset.root"))
    }


def _derive_name(cfg: DictConfig) -> str:
    """Readable, and the same for the same command: what was chosen, the seed, and a digest of all that matters."""
    choices = cfg.choices
    parts = [choices.get("experiment")] if choices.get("experiment") else [choices.data, choices.model]
    if choices.get("backbone") and not choices.get("experiment"):
        parts.append(choices.backbone)
    stem = "-".join(str(part).replace("/", "_") for part in parts)
    return f"{stem}-s{cfg.seed}-{_digest(identity(cfg))}"


def _first_free(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _check_same(cfg: DictConfig, run: RunFolder) -> None:
    old, new = identity(OmegaConf.load(run.config)), identity(cfg)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        first = ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed[:3])
        raise ValueError(
            f"{run.path} holds a run of another configuration ({first}{', ...' if len(changed) > 3 else ''}); "
            "give another name=, or resume=false to start beside it"
        )


def _user_message(error: BaseException, config_name: str) -> str | None:
    """One line for an error that the user can mend; None for one that is ours."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if type(link) is ValueError and _is_ours(link):
            return _one_line(str(link))
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _one_line(_with_nearest(" ".join(str(link) for link in chain[:2]), config_name))
    return None


def _is_ours(error: BaseException) -> bool:
    """Whether this project raised it; a ValueError from inside a library is a bug and wants its traceback."""
    if WORKER in str(error):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(CONF.parent / "src")


def _one_line(message: str) -> str:
    # A data worker's error comes with its traceback; the last line of it is the message.
    if WORKER in message:
        message = message[message.rindex("ValueError: ") + len("ValueError: ") :]
    return re.sub(r"\s+", " ", message).strip()


def _with_nearest(message: str, config_name: str) -> str:
    """Hydra's message, shorter, with the names that come nearest to the misspelt one."""
    if found := re.search(r"Could not find '(.+?)/([^/']+)'", message):
        group, given = found.groups()
        options = sorted(path.stem for path in (CONF / group).glob("**/*.yaml") if not path.stem.startswith("_"))
        options += re.findall(r"\t(\S+)", message)
        return f"{group}={given} is unknown; {_nearest(given, sorted(set(options)))}"
    if found := re.search(r"(?:Could not override|Key) '(.+?)'", message):
        key = found.group(1)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            default = hydra.compose(config_name)
        keys = sorted(_flatten(OmegaConf.to_container(default)) | dict(default.items()))
        return f"{key} is not a key of this configuration; {_nearest(key, keys)}; --help lists the groups"
    return message


def _nearest(given: str, options: list[str]) -> str:
    near = difflib.get_close_matches(given, options, 3, cutoff=0.5)
    if near:
        return f"the nearest are {', '.join(near)}"
    return f"allowed are {', '.join(options[:30])}{', ...' if len(options) > 30 else ''}"


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {
        key: value
        for name, inner in node.items()
        for key, value in _flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:6]
