"""Opens the folder of a run for training: finds or makes it, writes its configuration, locks it."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from src.config.complete import Prepared, model_weights
from src.config.flat import changes, differing_keys, literal, to_dict
from src.config.identity import derive_name, identity
from src.config.messages import PlainFormatter
from src.config.saved import check_classes_named, config_text, read_config
from src.config.words import shell_word
from src.errors import UserError, shortened
from src.files import check_name, claim, first_free, has_file, plain, read_json, write_json, write_text
from src.machine import PARENT_VARIABLE, RUN_VARIABLE, environment, is_first_process
from src.runs.folder import IDENTITY, RunFolder
from src.runs.leakage import image_ids, note_leakage

log = logging.getLogger(__name__)
EPOCHS = "trainer.max_epochs"


def open_run(prepared: Prepared) -> tuple[RunFolder, DictConfig]:
    """Returns the folder of a run, the one that the same command made before or a new one, and the resolved config.

    Raises:
        UserError: the folder holds weights of another configuration, or another process trains in it; a class that
            no command would build from the run folder.
    """
    cfg = prepared.config
    inherited = os.environ.get(RUN_VARIABLE)
    path = Path(inherited or Path(cfg.runs) / folder_name(cfg, derive_name(cfg)))
    if not cfg.resume and not inherited:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise UserError("resume=false: under torchrun every rank would choose a folder; give name=... instead")
        path = first_free(path)
    cfg.run_dir = literal(str(path))
    run, resolved = RunFolder(path), resolve(cfg)
    check_classes_named(resolved)
    if not inherited and is_first_process() and _differences(cfg, run):
        claim(run.path, "name")
        with run.lock():  # another process may train here, and have no checkpoint yet
            if not run.has_weights:
                run.clear()
            elif has_file(run.config):
                check_configuration(cfg, run)
            _write_records(run, prepared, resolved)
            if cfg.name is None:
                note_shorter(cfg, run)
    return run, resolved


def _words_of_job() -> list[str] | None:
    """Returns the words of this job, if it is one of a sweep."""
    is_job = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return list(HydraConfig.get().overrides.task) if is_job else None


def folder_name(cfg: DictConfig, derived: str) -> str:
    """Returns the name of a folder in `runs`, the one given or else the derived one. Raises UserError for a path."""
    return derived if cfg.name is None else check_name("name", cfg.name)


def resolve(cfg: DictConfig) -> DictConfig:
    """Returns a copy of a configuration without interpolations; `${` in a path or a name of the user stays text."""
    content: dict[str, Any] = literal(to_dict(cfg, resolve=True))
    return OmegaConf.create(content)


@contextmanager
def claimed(run: RunFolder, cfg: DictConfig) -> Iterator[bool]:
    """Locks the run folder and logs to it; yields True on rank 0.

    The environment names the folder to the processes that Lightning starts, and this process, with which they end.

    Raises:
        UserError: another process has it, or made it a run of another configuration since it was opened.
    """
    with environment(RUN_VARIABLE, str(run.path)), environment(PARENT_VARIABLE, str(os.getpid())):
        if not is_first_process():
            yield False
            return
        with run.lock(), closing(logging.FileHandler(run.log)) as handler:
            check_configuration(cfg, run)
            read_config(run.config)
            handler.setFormatter(PlainFormatter())
            logging.getLogger().addHandler(handler)
            try:
                run.mend()
                run.note_session(words=_words_of_job())
                try:
                    yield True
                finally:
                    with suppress(OSError):  # a full disk: the error that it made before says so
                        run.note_end()
            finally:
                logging.getLogger().removeHandler(handler)


def check_configuration(cfg: DictConfig, run: RunFolder) -> None:
    """Raises UserError if the folder is of another configuration."""
    if found := _differences(cfg, run):
        if has_file(run.config) and is_longer(_saved_identity(run), plain(identity(cfg))):
            raise UserError(f"{run.path} holds the same training with {found[0]}, and {of_other_length(cfg, run)}")
        raise UserError(
            f"{run.path} holds a run of another configuration ({shortened(found)}); give another name= (to "
            "src.crossval or src.stages, if one of these runs it), or resume=false, to start beside it, and with it "
            f"{shell_word('init_from', run.path)} to start from its weights"
        )


def is_longer(saved: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Returns whether a configuration asks for more epochs than another one, and is the same otherwise."""
    return differing_keys(saved, asked) == [EPOCHS] and asked[EPOCHS] > saved[EPOCHS]


def of_other_length(cfg: DictConfig, run: RunFolder) -> str:
    """Says why a run gets no more epochs than its schedule has, and both ways to train longer."""
    schedule = cfg.scheduler._target_.rpartition(".")[2]
    rate = f"optimizer.lr={cfg.optimizer.lr / 10:g}"
    return (
        f"a run keeps the number of epochs that its schedule ({schedule}) was laid out over. For a schedule of "
        f"{cfg.trainer.max_epochs} epochs from the start, give another name= or none; to go on from its weights by a "
        "new schedule at a lower rate, give another name= or none, and "
        f"{shell_word('init_from', run.path)} {rate}"
    )


def note_shorter(cfg: DictConfig, run: RunFolder) -> None:
    """Logs a note if a folder beside a new run holds the same training with another number of epochs."""
    asked = plain(identity(cfg))
    for path in sorted(run.path.parent.glob(f"{run.path.name.rpartition('-')[0]}-*/{IDENTITY}")):
        other = RunFolder(path.parent)
        with suppress(UserError, OSError):  # not a matter of this run
            saved = _saved_identity(other)
            if is_longer(saved, asked) and other.has_weights:
                text = f"the same training with {changes(saved, asked)[0]}; this one begins anew, for"
                log.info("note: %s is %s %s", other.path, text, of_other_length(cfg, other))


def _differences(cfg: DictConfig, run: RunFolder) -> list[str]:
    """Differences from the folder's saved configuration; the config path if there is none yet."""
    return changes(_saved_identity(run), plain(identity(cfg))) if has_file(run.config) else [str(run.config)]


def _saved_identity(run: RunFolder) -> dict[str, Any]:
    """Reads the identity of a run. Raises UserError if it is damaged or missing."""
    saved = read_json(run.identity) if has_file(run.identity) else None
    if not isinstance(saved, dict):
        raise UserError(
            f"{run.identity}: is damaged or missing, so that nothing says which run this is; put back a copy of it, or "
            "give another name=, or resume=false, to start beside it"
        )
    return saved


def weight_files(cfg: DictConfig) -> list[Path]:
    """Returns the files of weights that a training begins with: of `init_from`, of the backbone, of a teacher."""
    source = [] if cfg.init_from is None else [Path(cfg.init_source.path)]
    return [path for path in (*source, *model_weights(cfg)) if path.is_file()]


def _write_records(run: RunFolder, prepared: Prepared, resolved: DictConfig) -> None:
    """Writes the file lists of the folds, the images that are trained on, the identity and, last, the configuration."""
    cfg, source, folds = prepared.config, prepared.source, prepared.folds
    for name, text in folds.lists(source).items():
        write_text(run.path / "folds" / f"{name}.txt", text)
    trained = image_ids(source, folds.samples(source, "train"))
    note_leakage(run.path, trained, *weight_files(cfg))
    write_json(run.identity, identity(cfg))
    write_text(run.config, config_text(resolved))
