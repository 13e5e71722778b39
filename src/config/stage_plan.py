"""Plans staged training: composes the commands of every stage, so that a faulty override is found before the first."""

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from src.config.build import build_source
from src.config.checks import check_given
from src.config.flat import digest, to_dict
from src.config.fold_plan import check_folds, choose_folder, shared_overrides
from src.config.identity import identity
from src.config.words import quoted
from src.data.fingerprint import training_fingerprints
from src.errors import UserError, whole
from src.folds.stages import WINNER, Stage, StagesPlan

LINEAGES = ("aggregate", "separate")
# Keys of the command line that src.crossval does not take, or that each stage gives it anew.
OWN_KEYS = ("stages", "lineage", "aggregate", "name", "runs", "resume")
# Keys that a stage decides, and the remedy if the command line gives one of them.
DECIDED = {
    "trainer.max_epochs": "give stages.NAME.epochs",
    "init_from": "only the first stage could take it: stages.NAME.overrides=[init_from=...]",
    "crossval.init_from": "only the first stage could take it: stages.NAME.overrides=[crossval.init_from=...]",
}


def plan_stages(cfg: DictConfig) -> StagesPlan:
    """Plans all stages.

    Raises:
        UserError: no list of stages, no folds, a sweep, epochs or a start that the stages decide, an unknown lineage, a
            stage without epochs, an override that does not compose.
    """
    if "stages" not in cfg:
        lists = GlobalHydra.instance().config_loader().get_group_options("stages")
        raise UserError(f"stages is not set; give stages=NAME, one of {', '.join(lists)}")
    for key, remedy in DECIDED.items():
        if any(word.startswith(f"{key}=") for word in HydraConfig.get().overrides.task):
            raise UserError(f"{key}: is each stage's own; {remedy}")
    if cfg.lineage not in LINEAGES:
        raise UserError(f"lineage={cfg.lineage}: must be one of {', '.join(LINEAGES)}")
    check_folds("src.stages", cfg)
    content = to_dict(cfg)
    options = {key: content[key] for key in ("stages", "lineage", "aggregate")}
    with open_dict(cfg):
        for key in (*options, "crossval"):
            cfg.pop(key)
    choice = HydraConfig.get().runtime.choices["stages"]
    if cfg.name is None:
        key = digest([identity(cfg), options, data_fingerprints(cfg)])
        cfg.name = f"stages-{choice}-{cfg.data.num_folds}folds-s{cfg.seed}-{key}"
    folder, stages = choose_folder(cfg, cfg.name), []
    for number, (key, given) in enumerate(options["stages"].items(), 1):
        epochs = whole(f"stages.{key}.epochs", given.get("epochs"), 1)
        place = folder / f"{number}_{key}"
        words = [*(given.get("overrides") or []), *shared_overrides(OWN_KEYS), f"trainer.max_epochs={epochs}"]
        if stages:
            before = stages[-1].folder
            is_shared = options["lineage"] == "aggregate"
            start = f"init_from={quoted(before / WINNER)}" if is_shared else f"crossval.init_from={quoted(before)}"
            words.append(start)
        words += [f"runs={quoted(folder)}", f"name={place.name}"]
        try:
            compose("crossval", words)
        except HydraException as error:
            raise UserError(f"stages.{key} with this command line: {' '.join(str(error).split())[:300]}") from error
        average = ["src.aggregate", f"from={quoted(place)}", f"out={quoted(place / WINNER)}"]
        average += [f"{key}={'null' if value is None else value}" for key, value in options["aggregate"].items()]
        average.append(f"accelerator={cfg.trainer.accelerator}")
        stages.append(Stage(place, ["src.crossval", *words], average, cfg.data.num_folds, epochs))
    return StagesPlan(folder, stages, with_progress=cfg.trainer.enable_progress_bar)


def data_fingerprints(cfg: DictConfig) -> dict[str, str]:
    """Returns the fingerprints of the data of all folds. Raises UserError if the data are missing or faulty."""
    check_given(cfg)
    first = cfg.copy()
    first.data.fold = 0
    return training_fingerprints(*build_source(first))
