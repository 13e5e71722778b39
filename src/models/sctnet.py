"""SCTNet: a single-branch CNN with transformer semantic information (Xu et al. 2024, AAAI, arXiv 2312.17071)."""

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import AlignedLogits, Architecture, Encoder
from src.models.init import initialise
from src.models.parts.dappm import DAPPM, bn_relu_conv
from src.models.parts.layers import resize, with_bn_relu
from src.models.sctnet_alignment import Alignment
from src.models.weights import ENCODER_WRAPPERS, find_weights, load_weights, read_weights, strip


class SCTNet(Architecture):
    """Residual stages, attention by convolution at strides 16 and 32, DAPPM and head; logits at stride 8.

    SCTNet-S has 32 base channels and 64 in the DAPPM, SCTNet-B has 64 and 128.

    Args:
        base_channels: C, of the stem; the stages have C, 2 C, 4 C and 8 C.
        spp_channels: of each scale of the DAPPM.
        drop_path: probability of leaving out a branch of a CFBlock per image, in training.
        aux: an auxiliary head at stride 8, before the context.
        weights: of the encoder: None, or a .safetensors or .pth file (the authors' ImageNet weights, or a checkpoint
            of an SCTNet). A classifier in it is not used; the DAPPM may be missing, since a classifier has none.
        teacher: of the semantic information alignment, see `Alignment`; None trains without one.

    Raises:
        UserError: a probability outside [0, 1); weights or a teacher that do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        base_channels: int = 32,
        spp_channels: int = 64,
        drop_path: float = 0.1,
        aux: bool = True,
        weights: str | None = None,
        teacher: dict | None = None,
    ) -> None:
        if not 0 <= drop_path < 1:
            raise UserError(f"model.drop_path={drop_path}: must be at least 0 and below 1")
        c = base_channels
        super().__init__(SCTEncoder(c, spp_channels, drop_path))
        self.head = _head(4 * c, num_classes)
        self.aux_head = _head(2 * c, num_classes) if aux else None
        initialise(self, "kaiming")
        if weights is not None:
            path = find_weights("model.weights", weights, "a .safetensors or .pth file, or null")
            state = strip(read_weights(path), ENCODER_WRAPPERS)
            remedy = "give a file of an SCTNet with this model.base_channels, or null"
            load_weights(self.encoder, state, f"model.weights={path}", "this SCTNet", remedy, optional="spp.")
            self.encoder.pretrained = True
        # Last, so that the student starts from the same weights with and without a teacher.
        self.alignment = None if teacher is None else Alignment(teacher, num_classes, *self.encoder.out_channels[1:])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / 8, W / 8)` each, sides rounded up; `AlignedLogits` if a teacher trains it."""
        x2, x3, x5, x_out = self.encoder(image)
        logits = self.with_aux(self.head(x_out), x2)
        if not self.training or self.alignment is None:
            return logits
        return AlignedLogits(logits, self.alignment(image, x3, x5, x_out))


class SCTEncoder(Encoder):
    """SCTNet without its heads; the parts have the names of the official code, so that its weight files load."""

    divisor = 1
    pretrained = False

    def __init__(self, channels: int, spp_channels: int, drop_path: float) -> None:
        super().__init__()
        c = channels
        self.out_channels = [2 * c, 4 * c, 8 * c, 4 * c]
        self.conv1 = nn.Sequential(*_down(3, c), *_down(c, c))
        self.layer1 = _stage(c, c)
        self.layer2 = _stage(c, 2 * c, stride=2)
        self.layer3 = _stage(2 * c, 4 * c, stride=2)
        self.layer3_2 = CFBlock(4 * c, drop_path)
        self.convdown4 = _down(4 * c, 8 * c)
        self.layer4 = CFBlock(8 * c, drop_path)
        self.layer5 = CFBlock(8 * c, drop_path)
        self.spp = DAPPM(8 * c, spp_channels, 2 * c)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`(B, 3, H, W)` to x2 (2 C channels, stride 8), x3 (4 C, 16), x5 (8 C, 32) and x_out (4 C, 8)."""
        x1 = self.layer1(self.conv1(image))  # (B, C, H / 4, W / 4)
        x2 = self.layer2(F.relu(x1))  # (B, 2 C, H / 8, W / 8)
        x3 = self.layer3_2(F.relu(self.layer3(F.relu(x2))))  # (B, 4 C, H / 16, W / 16)
        x4 = self.layer4(self.convdown4(x3))  # (B, 8 C, H / 32, W / 32)
        x5 = self.layer5(F.relu(x4))
        context = resize(self.spp(x5), x2.shape[-2:])  # (B, 2 C, H / 8, W / 8)
        return x2, x3, x5, torch.cat([x2, context], dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with biases beside a shortcut (He et al. 2016); `final_relu` applies to the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, final_relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out) if self.final_relu else out


class CFBlock(nn.Module):
    """A conv-former block: attention by convolution, then a 3x3 MLP, each a residual branch under DropPath."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.attn_l = ConvolutionalAttention(channels)
        self.mlp_l = MLP(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` to the same."""
        x = x + self.drop_path(self.attn_l(x))
        return x + self.drop_path(self.mlp_l(x))


class ConvolutionalAttention(nn.Module):
    """Attention to learned tokens; a 7x1 and a 1x7 kernel are its keys and, transposed, its values.

    Args:
        num_tokens: number of learned tokens.
        num_heads: number of groups of tokens that are normalised together.
    """

    def __init__(self, channels: int, num_tokens: int = 64, num_heads: int = 8) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.BatchNorm2d(channels)
        self.kv = nn.Parameter(torch.empty(num_tokens, channels, 7, 1))
        self.kv3 = nn.Parameter(torch.empty(num_tokens, channels, 1, 7))
        # As the authors intend; in their code they start at 0, for mmcv's initialiser skips a tensor that is no module.
        nn.init.trunc_normal_(self.kv, std=0.001)
        nn.init.trunc_normal_(self.kv3, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` to the same."""
        x = self.norm(x)
        return self._attend(x, self.kv, padding=(3, 0)) + self._attend(x, self.kv3, padding=(0, 3))

    def _attend(self, x: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
        scores = F.conv2d(x, kernel, padding=padding)  # (B, tokens, h, w)
        # Grouped double normalisation, in float32: over all positions, then over the tokens of a head.
        weights = scores.flatten(2).float().softmax(dim=-1).unflatten(1, (self.num_heads, -1))
        weights = weights / (weights.sum(dim=2, keepdim=True) + 1e-6)  # (B, heads, tokens / heads, h w)
        weights = weights.reshape(scores.shape).to(scores.dtype)
        return F.conv2d(weights, kernel.transpose(0, 1), padding=padding)


class MLP(nn.Sequential):
    """BatchNorm, 3x3 convolution, GELU, 3x3 convolution; the authors' dropout has probability 0 everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1))


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(*bn_relu_conv(channels, channels, kernel_size=3), *bn_relu_conv(channels, num_classes))


def _stage(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Two blocks; the reader of the stage applies the ReLU that its last block leaves out."""
    return nn.Sequential(
        BasicBlock(in_channels, out_channels, stride, final_relu=True),
        BasicBlock(out_channels, out_channels, 1, final_relu=False),
    )
