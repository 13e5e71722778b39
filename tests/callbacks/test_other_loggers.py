"""TensorBoard gets what W&B gets, by the same calls; a dashboard whose package is not installed is refused at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.mlflow_logger import MLflow
from src.callbacks.tensorboard_logger import TensorBoard
from src.callbacks.trackio_logger import Trackio
from src.errors import UserError
from src.reports.dashboard import Description, Example, Examples, Publication, marked_figures
from src.runs.records import Taint
from tests.support.records import evaluation


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard and protobuf
def test_tensorboard_gets_curves_pictures_figures_and_the_configuration(tmp_path: Path) -> None:
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(picture).save(tmp_path / "confusion.png")
    ids = np.zeros((8, 8), dtype=np.uint8)
    taints = [Taint("trained", 2)]
    with TensorBoard(str(tmp_path)) as logger:
        logger.describe(Description({"optimizer.lr": 0.1, "data.classes.a": [1, 2, 3]}, ("camvid", "unet")))
        logger.mark(taints)
        for step in range(3):
            logger.log_metrics({"val/iou/Sign & Pole": step / 10, "epoch": step}, step)
        logger.show_examples(Examples([Example("x", picture, ids, ids)], ["a"], picture, epoch=1, step=2))
        found = evaluation(taints=taints)
        figures = marked_figures("best", found)
        logger.publish(Publication({"confusion": tmp_path / "confusion.png"}, "a | b", figures, found))
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("val/iou/Sign & Pole")]
    assert curve == [(0, 0), (1, pytest.approx(0.1)), (2, pytest.approx(0.2))]
    assert events.Scalars("best/miou†")[0].value == pytest.approx(0.775)
    assert {"val/predictions", "figures/confusion"} <= set(events.Tags()["images"])
    assert events.Images("val/predictions")[0].step == 2
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert texts["tags/text_summary"] == "camvid, unet"
    assert texts["tainted/text_summary"] == str(taints[0])
    assert texts["figures/table/text_summary"] == "    a | b"
    parameters = (tmp_path / "tensorboard" / "hparams.yaml").read_text()
    assert "optimizer.lr: 0.1" in parameters


@pytest.mark.parametrize(("build", "name"), [(MLflow, "mlflow"), (Trackio, "trackio")])
def test_a_package_that_is_not_installed_is_named(build: type, name: str, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"id": "0", "sessions": []}))
    with pytest.raises(UserError, match=f"logger={name}: needs the package {name}, which is not installed; pip inst"):
        build(str(tmp_path), "streetseg")
