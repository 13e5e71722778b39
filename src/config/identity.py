"""The identity of a run: the values that must not change if it is continued, and the name derived from them."""

from typing import Any

from omegaconf import DictConfig

from src.config.flat import digest, flatten, to_dict

# Keys that do not change the result: a run may be continued with other values of these. The folder of the data is among
# them, because data.fingerprint stands for its content; and backbone.mean, because data.mean is what acts.
VOLATILE = (
    "name", "resume", "runs", "run_dir", "choices", "init_from", "init_source.path", "logger", "data.root",
    "data.pack", "data.num_workers", "data.worker_timeout", "rank_timeout", "trainer.accelerator",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps", "callbacks.panels", "callbacks.progress",
    "callbacks.checkpoints.every_minutes", "checkpoints", "normalised_by", "backbone.mean", "backbone.std",
)  # fmt: skip

# Keys that runs of earlier versions do not have, and the value by which they act as these did. It is no part of the
# identity, so that such runs continue, and their names stay.
NEUTRAL = {
    "data.channels": 3,
    "data.range": None,
    "data.merge": None,
    "data.ignore": None,
    "inference.weights": "flat",
    "inference.labels": "own",
    "inference.crop": None,
    "inference.crf": None,
    "early_stopping.patience": None,
    "trainer.num_nodes": 1,
    "weight_digests": None,
}


def identity(cfg: DictConfig) -> dict[str, Any]:
    """Returns the values that make a run what it is, by dotted key; interpolations are not resolved."""
    return {
        key: value
        for key, value in flatten(to_dict(cfg)).items()
        if not any(key == name or key.startswith(f"{name}.") for name in VOLATILE)
        and not (key in NEUTRAL and value == NEUTRAL[key])
    }


def derive_name(cfg: DictConfig, *, all_folds: bool = False) -> str:
    """Derives a readable name, the same for the same command: the choices, the seed, and a digest of the identity.

    `cfg` is complete, not resolved. `all_folds`: the name is that of a cross-validation, `cfg` one of its folds'.
    """
    choices = cfg.choices
    experiment, backbone = choices.get("experiment"), choices.get("backbone")
    parts = [experiment] if experiment else [choices.data, choices.model, *([backbone] if backbone else [])]
    if choices.get("scale", "full") != "full":
        parts.append(choices.scale)
    if cfg.data.num_folds is not None:
        count = cfg.data.num_folds
        parts.append(f"{count}folds" if all_folds else f"fold{cfg.data.fold}of{count}")
    stem = "-".join(str(part).replace("/", "_") for part in parts)
    return f"{stem}-s{cfg.seed}-{digest(identity(cfg))}"
