"""DPT (Ranftl et al. 2021, Vision Transformers for Dense Prediction), through smp's decoder."""

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_vit_encoder


class DPT(Architecture):
    """Four maps of a plain vision transformer, reassembled as a pyramid and fused from coarse to fine.

    The readout concatenates the class token to each cell; registers, the tokens after it, are not used, and without a
    class token nothing is read out. The pyramid of patches of 14 pixels is made as that of 16; the fused map, 8 cells
    per patch, is then brought to 7, which is stride 2.

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
        self.patch = encoder.output_stride
        self.decoder = DPTDecoder(
            encoder_out_channels=encoder.out_channels,
            encoder_output_strides=[16 if encoder.output_stride == 14 else encoder.output_stride] * 4,
            encoder_has_prefix_tokens=encoder.has_class_token,
            readout="cat" if encoder.has_class_token else "ignore",
            intermediate_channels=tuple(intermediate_channels),
            fusion_channels=fusion_channels,
        )
        # smp refines the deepest map twice; the authors' code refines only what joins a map that was fused before.
        self.decoder.fusion_blocks[0].residual_conv_block1 = nn.Identity()
        # The head without its upsampling.
        self.head = DPTSegmentationHead(fusion_channels, num_classes).head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by twice the patch, to `((B, K, H / 2, W / 2),)` with patches of 14 or 16."""
        fused = self.decoder(*self.encoder(image))
        if self.patch == 14:
            half = [side // 2 for side in image.shape[-2:]]
            fused = F.interpolate(fused, half, mode="bilinear", align_corners=True)
        return (self.head(fused),)
