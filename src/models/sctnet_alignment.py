"""The semantic information alignment of SCTNet with a trained SegFormer in training (Xu et al. 2024, section 3.3)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.init import initialise
from src.models.parts.layers import resize
from src.models.smp_network import SMPNetwork
from src.models.weights import find_weights, load_weights, read_weights


class Alignment(nn.Module):
    """The student's projections, and the teacher with whose maps they are compared.

    Stages 3 and 4 are compared as they are (backbone feature alignment). The decoder's map is brought to the teacher's
    stride 4 and to the statistics of the teacher's own map, and then passes through the teacher's fusion and classifier
    (shared decoder head alignment).

    The teacher is frozen, always in evaluation mode, and no part of this module: it is neither trained nor saved, but
    moves to another device with it. Without the teacher's weights only the projections are built, so that a checkpoint
    loads.

    Args:
        teacher: `backbone` (`name`, and `weights`, which must be None), `weights` (a checkpoint of src.train, of smp's
            Segformer on that backbone, or None) and, if it is not 256, `decoder_segmentation_channels`.
        num_classes: K, of student and teacher.
        stage3_channels: of the student's map at stride 16; `stage4_channels` at 32, `decoder_channels` at 8.

    Raises:
        UserError: an unknown or a missing key, weights that do not fit.
    """

    def __init__(
        self, teacher: dict, num_classes: int, stage3_channels: int, stage4_channels: int, decoder_channels: int
    ) -> None:
        super().__init__()
        network = _build(teacher, num_classes)
        *_, stage3, stage4 = network.encoder.out_channels
        self.stage3 = nn.Conv2d(stage3_channels, stage3, 1)
        self.stage4 = nn.Conv2d(stage4_channels, stage4, 1)
        self.decoder = nn.Conv2d(decoder_channels, network.decoder.fuse_stage[0].in_channels, 1)
        initialise(self, "kaiming")
        # In a list, which hides it from parameters(), state_dict() and train().
        self._teacher = [] if teacher["weights"] is None else [Teacher(network)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Alignment":
        # `to`, `cuda` and `bfloat16` call this for a module's parts; the teacher is no part, but has to follow.
        for teacher in self._teacher:
            teacher._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, image: Tensor, x3: Tensor, x5: Tensor, x_out: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Computes the pairs `stage3` (stride 16), `stage4` (32), `decoder` and `logits` (4), the student's map first.

        Args:
            image: normalised, `(B, 3, H, W)`.
            x3: the student's map at stride 16, sides rounded up; `x5` at 32, `x_out` at 8.

        Raises:
            UserError: the teacher has no weights.
        """
        if not self._teacher:
            raise UserError(
                "model.teacher.weights is null: an aligned network is trained with its teacher; set "
                "model.teacher.weights=runs/NAME/checkpoints/best.ckpt, or model.teacher=null to train without one"
            )
        (teacher,) = self._teacher
        with torch.no_grad():
            target3, target4, joined = teacher(image)
            target_feature, target_logits = teacher.decode(joined)
        projected = self.decoder(x_out)
        height, width = projected.shape[-2:]
        projected = resize(projected, (2 * height, 2 * width))[..., : joined.shape[-2], : joined.shape[-1]]
        feature, logits = teacher.decode(match_statistics(projected, joined))
        return {
            "stage3": (self.stage3(x3), target3),
            "stage4": (self.stage4(x5), target4),
            "decoder": (feature, target_feature),
            "logits": (logits, target_logits),
        }


class Teacher(nn.Module):
    """A frozen SegFormer, divided at the maps with which the student's are compared."""

    def __init__(self, network: SMPNetwork) -> None:
        super().__init__()
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, 3, H, W)` to stage 3 (stride 16), stage 4 (32) and the decoder's joined maps (4), sides rounded up."""
        height, width = image.shape[-2:]
        divisor = self.network.divisor
        features = self.network.encoder(F.pad(image, (0, -width % divisor, 0, -height % divisor)))
        decoder, size = self.network.decoder, [side // 4 for side in features[0].shape[-2:]]
        # Deepest first, as in smp's decoder.
        levels = zip(decoder.mlp_stage, reversed(features), strict=False)
        joined = torch.cat([resize(mlp(feature), size) for mlp, feature in levels], dim=1)
        maps = zip((16, 32, 4), (features[-2], features[-1], joined), strict=True)
        stage3, stage4, joined = (x[..., : -(-height // stride), : -(-width // stride)] for stride, x in maps)
        return stage3, stage4, joined

    def decode(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the fused map and the logits of joined maps, the teacher's own or a student's."""
        feature = self.network.decoder.fuse_stage(joined)
        return feature, self.network.head(feature)


def match_statistics(student: Tensor, teacher: Tensor) -> Tensor:
    """Gives each of the student's channels the teacher's mean and deviation over images and positions."""
    with torch.autocast(student.device.type, enabled=False):
        deviation, mean = torch.std_mean(student.float(), dim=(0, 2, 3), keepdim=True)
        target_deviation, target_mean = torch.std_mean(teacher.float(), dim=(0, 2, 3), keepdim=True)
        matched = (student.float() - mean) / (deviation + 1e-6) * target_deviation + target_mean
    return matched.to(student.dtype)


def _build(teacher: dict, num_classes: int) -> SMPNetwork:
    allowed = {"backbone", "weights", "decoder_segmentation_channels"}
    if not isinstance(teacher, dict) or not {"backbone", "weights"} <= set(teacher) <= allowed:
        raise UserError(
            f"model.teacher={teacher}: must be null, or have backbone and weights, and decoder_segmentation_channels "
            "if that is not 256"
        )
    backbone, weights = teacher["backbone"], teacher["weights"]
    if backbone["weights"] is not None:
        raise UserError(
            f"model.teacher.backbone.weights={backbone['weights']}: must be null; model.teacher.weights has them"
        )
    options = {key: value for key, value in teacher.items() if key != "weights"}
    network = SMPNetwork("Segformer", num_classes=num_classes, **options)
    if weights is not None:
        allowed = f"runs/NAME/checkpoints/best.ckpt of a run of model=segformer on {backbone['name']}"
        path = find_weights("model.teacher.weights", weights, allowed)
        prefix = "network.architecture."
        state = {key.removeprefix(prefix): x for key, x in read_weights(path).items() if key.startswith(prefix)}
        target = f"smp's Segformer on {backbone['name']} for these classes"
        remedy = "give a checkpoint of a run of model=segformer with this model.teacher.backbone and these data.classes"
        # Exact, for MiT-B2 is MiT-B3 without some of its blocks.
        load_weights(network, state, f"model.teacher.weights={path}", target, remedy, exact=True)
    return network
