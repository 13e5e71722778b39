"""DPT on the vision transformers of DINOv2, DINOv3 and others: tokens, position embeddings, patches of 14 pixels."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from src.errors import UserError
from src.evaluation.export import export_program
from src.models.dpt import DPT
from src.models.encoder import ViTEncoder, build_vit_encoder
from src.models.network import Network

SMALL = {"embed_dim": 48, "num_heads": 3}
# Patch, tokens before those of the patches, and whether the first is a class token.
VITS = {
    "vit_small_patch16_dinov3": (16, 5, True),
    "vit_small_patch14_dinov2": (14, 1, True),
    "vit_small_patch14_reg4_dinov2": (14, 5, True),
    "eva02_tiny_patch14_224": (14, 1, True),
    "vit_medium_patch16_rope_reg1_gap_256": (16, 1, False),
    "vit_pe_core_gigantic_patch14_448": (14, 0, False),
}


def backbone(name: str) -> dict:
    return {"name": f"tu-{name}", "weights": None, "options": dict(SMALL)}


def encoder_of(name: str) -> ViTEncoder:
    torch.manual_seed(0)
    encoder = build_vit_encoder(backbone(name)).eval()
    for parameter in encoder.parameters():  # timm's tokens and embeddings begin near 0
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_maps_and_tokens_equal_those_of_a_network_of_that_size(name: str) -> None:
    """A network that timm builds for images of this size needs no resampling of its own."""
    patch, num_tokens, has_class_token = VITS[name]
    encoder = encoder_of(name)
    assert (encoder.divisor, encoder.has_class_token) == (2 * patch, has_class_token)
    for cells in ((4, 6), (10, 2)):
        size = [patch * count for count in cells]
        whole = timm.create_model(name, img_size=size, **SMALL).eval()
        state = whole.state_dict() | encoder.model.state_dict()
        if "pos_embed" in state:
            spare = 0 if getattr(whole, "no_embed_class", False) else num_tokens
            own = round((state["pos_embed"].shape[1] - spare) ** 0.5)
            state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], cells, (own, own), num_prefix_tokens=spare)
        whole.load_state_dict({key: state[key] for key in whole.state_dict()})
        quarters = [len(whole.blocks) * part // 4 - 1 for part in (1, 2, 3, 4)]
        image = torch.randn(2, 3, *size)
        maps, tokens = encoder(image)
        expected = whole.forward_intermediates(
            image, indices=quarters, return_prefix_tokens=num_tokens > 0, intermediates_only=True
        )
        for index in range(4):
            assert maps[index].shape == (2, 48, *cells)
            found = (maps[index], tokens[index]) if num_tokens else maps[index]
            torch.testing.assert_close(found, expected[index], atol=1e-4, rtol=1e-4)
            assert not num_tokens or tokens[index].shape == (2, num_tokens, 48)


@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_only_a_class_token_is_read_out(name: str) -> None:
    torch.manual_seed(0)
    _, num_tokens, has_class_token = VITS[name]
    decoder = DPT(backbone(name), 3, fusion_channels=8).eval().decoder
    maps = [torch.randn(1, 48, 4, 6) for _ in range(4)]
    tokens = [torch.randn(1, num_tokens, 48) if num_tokens else None for _ in range(4)]

    def differs(place: int) -> bool:
        other = [token.clone() for token in tokens]
        for token in other:
            token[:, place] += 1
        return not torch.equal(decoder(maps, tokens), decoder(maps, other))

    assert [differs(place) for place in range(num_tokens)] == [
        has_class_token and place == 0 for place in range(num_tokens)
    ]


@pytest.mark.parametrize("name", VITS)
def test_images_of_any_size_and_gradients_everywhere(name: str) -> None:
    torch.manual_seed(0)
    network = Network(DPT(backbone(name), 3, fusion_channels=8), None, None)
    image = torch.randint(0, 256, (2, 3, 65, 90), dtype=torch.uint8)
    (logits,) = network(image)
    assert logits.shape == (2, 3, 33, 45)
    logits.square().mean().backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not missing
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@torch.no_grad()
def test_logits_of_patches_of_14_lie_on_the_image() -> None:
    """A ramp in the fused map, 8 cells per patch, is the same ramp with 7, from the first pixel to the last."""
    model = DPT(backbone("vit_small_patch14_dinov2"), 1, fusion_channels=1).eval()
    ramp = torch.linspace(0, 1, 2 * 2 * 8).expand(1, 1, 32, 32)
    model.decoder.forward = lambda *args: ramp
    model.head = torch.nn.Identity()
    (logits,) = model(torch.zeros(1, 3, 56, 56))
    torch.testing.assert_close(logits, torch.linspace(0, 1, 28).expand(1, 1, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch14_dinov2"])
def test_export_at_another_size(name: str) -> None:
    torch.manual_seed(0)
    network = Network(DPT(backbone(name), 3, fusion_channels=8), None, None).eval()
    exported = export_program(network).module()
    for size in [(134, 262), (160, 288)]:
        image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            torch.testing.assert_close(exported(image)[0], network(image)[0], atol=1e-4, rtol=1e-4)


def test_refusals_name_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"dinov3_vits16, or backbone.name=tu-vit_"):
        build_vit_encoder({"name": "tu-convnext_tiny", "weights": None})
    with pytest.raises(UserError, match="patches of 12 pixels; they must have one of 8, 14, 16, 32"):
        build_vit_encoder({"name": "tu-test_vit", "weights": None, "options": {"patch_size": 12, "img_size": 48}})
