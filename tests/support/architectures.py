"""The recorded figures of every network, from the header of its yaml, and its construction for tests."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.models.network import Network

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@dataclass(frozen=True)
class Header:
    """`# Parameters: N with 19 classes[, backbone=B][; M more in training].`, `# Stride: [E (encoder), ]S (logits).`"""

    parameters: int
    training_only: int
    backbone: str | None
    encoder_stride: int | None
    stride: int
    small: str | None  # a small backbone, if the default does not fit


def read_header(model: str) -> Header:
    text = (CONF / "model" / f"{model}.yaml").read_text()
    counts = re.search(
        r"^# Parameters: ([\d,]+) with 19 classes(?:, backbone=(\w+))?(?:; ([\d,]+) more in training)?\.$", text, re.M
    )
    strides = re.search(r"^# Stride: (?:(\d+) \(encoder\), )?(\d+) \(logits\)\.$", text, re.M)
    small = re.search(r"^# Small: backbone=(\w+)\.$", text, re.M)
    assert counts, f"conf/model/{model}.yaml: no line '# Parameters: N with 19 classes[, backbone=NAME].'"
    assert strides, f"conf/model/{model}.yaml: no line '# Stride: [E (encoder), ]S (logits).'"
    number = lambda text: int((text or "0").replace(",", ""))  # noqa: E731
    return Header(
        parameters=number(counts[1]),
        training_only=number(counts[3]),
        backbone=counts[2],
        encoder_stride=int(strides[1]) if strides[1] else None,
        stride=int(strides[2]),
        small=small[1] if small else None,
    )


def build(model: str, num_classes: int, *overrides: str) -> Network:
    """Builds a network as training does, with random weights, on the smallest backbone unless one is named."""
    if small := read_header(model).small:
        overrides = (f"backbone={small}", *overrides)
    cfg = _composed(f"model={model}", *overrides).copy()
    cfg.backbone.weights = None
    cfg.data.classes = {f"class {index}": [index] * 3 for index in range(num_classes)}
    return instantiate(cfg.task.network, _convert_="all")


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


cached = functools.cache(build)
