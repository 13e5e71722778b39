"""The contracts between `Network`, an architecture, its encoder and a loss."""

from torch import Tensor, nn

from src.models.statistics import Statistics


class Encoder(nn.Module):
    """A backbone without its classifier: `forward(image)` takes a normalised image and gives several maps.

    smp's encoders are no subclasses: `build_encoder` sets the attributes that smp lacks on them, and wraps nothing, so
    that their tensors keep smp's names in a state dict.

    Attributes:
        out_channels: channels of each map that it gives.
        divisor: both sides of an image must be multiples of it.
        pretrained: whether its weights were given; `initialise` then leaves them as they are.
        statistics: mean and standard deviation of images in its pretraining; ImageNet's if it has random weights.
    """

    out_channels: list[int]
    divisor: int
    pretrained: bool
    statistics: Statistics


class Architecture(nn.Module):
    """A network without normalisation and padding; `Network` is the shell around it.

    `forward(image)` takes a normalised float `(B, 3, H, W)` whose sides are multiples of `divisor`, or one more if
    `corner_stride` is set. It returns a tuple
    of logits `(B, K, h, w)`, each at a stride of its own: the main ones first, in training mode auxiliary ones after
    them. One that is trained by a teacher returns `AlignedLogits`, which is such a tuple too.

    A subclass takes `num_classes`, K; if it has a backbone, `backbone`, the argument of `build_encoder`; and if it has
    an auxiliary head, which is kept as `aux_head`, `aux`, which leaves it out if it is False.

    Args:
        encoder: the backbone, which gives the divisor; None if there is none.

    Attributes:
        align_corners: how the logits are to be brought up to the image, see `src.upsampling.upsample`.
        divisor: of both sides of an image.
        corner_stride: set by a network that takes sides of divisor n + 1, so that the first and last cells of its maps
            lie on the corners of the image: the stride of its main logits.
    """

    align_corners: bool = False
    divisor: int
    corner_stride: int | None = None
    aux_head: nn.Module | None

    def __init__(self, encoder: Encoder | None = None) -> None:
        super().__init__()
        if encoder is not None:
            self.encoder = encoder
            self.divisor = encoder.divisor

    def with_aux(self, logits: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        """Adds the logits that the auxiliary head, if there is one, gives of `features` in training mode."""
        if self.training and self.aux_head is not None:
            return logits, self.aux_head(features)
        return (logits,)


class AlignedLogits(tuple[Tensor, ...]):
    """A tuple of logits, main first, that also has the maps by which a student is aligned with its teacher.

    Attributes:
        pairs: by name, maps of the student and of the teacher, `(B, C, h, w)` each; for `losses.alignment.AlignedLoss`.
    """

    pairs: dict[str, tuple[Tensor, Tensor]]

    def __new__(cls, logits: tuple[Tensor, ...], pairs: dict[str, tuple[Tensor, Tensor]]) -> "AlignedLogits":
        self = super().__new__(cls, logits)
        self.pairs = pairs
        return self
