"""The interface for other programs: `load` gives a trained network that segments images. Installed: `streetseg.api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.config.build import image_form
from src.config.checks import one_of
from src.config.export_plan import TORCH, find_engine
from src.config.flat import to_dict
from src.config.reopen import AS_RUN, load_run
from src.errors import UserError
from src.files import HOME

DEVICES = ("auto", "cpu", "cuda", "mps")

if TYPE_CHECKING:
    from src.evaluation.loaded import LoadedNetwork


def load(
    run: str | Path, *, device: str = "auto", checkpoint: str = "best", engine: str = TORCH, **inference: Any
) -> LoadedNetwork:
    """Loads the network of a run folder, or of the zoo by `zoo/NAME`.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        checkpoint: `best`, `last`, or a file.
        engine: `torch`; `onnx` or `openvino`, the file that `src.export` left in the run folder; or the path of one.
        inference: changes to the protocol of the run's validation, as `inference.*` of `src.predict`: `short_side=720`,
            `window=[512, 512]`, `scales=[0.75, 1.0]`, `flip=True`.

    Raises:
        UserError: no such run, checkpoint, engine or device, a damaged file, or an option out of range.
    """
    accelerator, _, number = device.partition(":")
    one_of("device", accelerator, DEVICES)
    cfg = OmegaConf.create({
        "run": str(run), "checkpoint": checkpoint, "engine": engine, "inference": inference,
        "accelerator": accelerator, "precision": AS_RUN, "data": {"root": AS_RUN},
    })  # fmt: skip
    known = [key for key in OmegaConf.load(HOME / "conf" / "_protocol.yaml").inference if key not in ("labels", "crop")]
    if unknown := [key for key in inference if key not in known]:
        raise UserError(f"{unknown[0]}={inference[unknown[0]]}: must be one of {', '.join(known)}")
    folder, config = load_run(cfg)
    file = find_engine(cfg, folder, config)

    from src.evaluation.loaded import LoadedNetwork, place  # imports torch: what was asked for is known to be there

    fabric = place(cfg.accelerator, number, config.trainer.precision, device)
    task, path = instantiate(config.task), folder.checkpoint(checkpoint)
    return LoadedNetwork(folder, to_dict(config), task, path, fabric, file, image_form(config.data))
