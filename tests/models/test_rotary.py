"""The rotary embedding for export gives timm's values, without a branch on the size of the image."""

import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3

from src.models.parts.rotary import FreeRotaryEmbedding


@pytest.mark.parametrize("shape", [[4, 6], [7, 3], [1, 1]])
@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_the_form_for_export_is_timms(shape: list[int], indexing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timms = RotaryEmbeddingDinoV3(64, grid_indexing=indexing)
    own = FreeRotaryEmbedding(64, grid_indexing=indexing)
    expected = timms._create_embed(shape, no_aug=True)
    torch.testing.assert_close(own._create_embed(shape, no_aug=True), expected, rtol=0, atol=0)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found = own._create_embed(shape, no_aug=True)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
