"""Messages about faulty files of a dataset, and about a batch that is larger than the training split."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.camvid import CamVid
from src.errors import UserError
from tests.support.small import small_data


def test_label_outside_the_table(camvid: Path) -> None:
    path = camvid / "valannot" / "0001TP_00000.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0, :3] = 77
    Image.fromarray(mask).save(path)
    source = CamVid(str(camvid))
    with pytest.raises(UserError) as error:
        source.read(source.samples("val")[0])
    assert str(error.value) == f"{path}: label 77 (3 px) is not in the label table 0..11, 255; mend the mask"


def test_truncated_png(camvid: Path) -> None:
    path = camvid / "val" / "0001TP_00000.png"
    path.write_bytes(path.read_bytes()[:500])
    source = CamVid(str(camvid))
    with pytest.raises(UserError) as error:
        source.read(source.samples("val")[0])
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert str(error.value).endswith("replace or remove the file")


def test_batch_larger_than_the_split() -> None:
    with pytest.raises(UserError) as error:
        small_data(num_train=4, batch_size=5).train_dataloader()
    assert str(error.value) == (
        "data.batch_size=5 is more than the 4 training images of a device; set data.batch_size=4 or less"
    )
