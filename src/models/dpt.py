"""DPT (Ranftl et al. 2021, Vision Transformers for Dense Prediction), through smp's decoder."""

from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_vit_encoder


class DPT(Architecture):
    """Four maps of a plain vision transformer, reassembled as a pyramid and fused from coarse to fine.

    Args:
        intermediate_channels: of the four reassembled maps; the default is the authors' for ViT-B, and 256, 512, 1024,
            1024 for ViT-L.

    Raises:
        UserError: a backbone that is not a plain vision transformer.
    """

    align_corners = True  # as in the paper's code

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        fusion_channels: int = 256,
        intermediate_channels: tuple[int, ...] = (96, 192, 384, 768),
    ) -> None:
        encoder = build_vit_encoder(backbone)
        super().__init__(encoder)
        self.decoder = DPTDecoder(
            encoder_out_channels=encoder.out_channels,
            encoder_output_strides=encoder.output_strides,
            encoder_has_prefix_tokens=encoder.has_prefix_tokens,
            readout="cat" if encoder.has_prefix_tokens else "ignore",
            intermediate_channels=tuple(intermediate_channels),
            fusion_channels=fusion_channels,
        )
        # smp refines the deepest map twice; the authors' code refines only what joins a map that was fused before.
        self.decoder.fusion_blocks[0].residual_conv_block1 = nn.Identity()
        # The head without its upsampling.
        self.head = DPTSegmentationHead(fusion_channels, num_classes).head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by twice the patch, to `((B, K, H / 2, W / 2),)` with patches of 16."""
        return (self.head(self.decoder(*self.encoder(image))),)
