"""BatchNorm over the batches of all devices, on GPUs and, which torch does not have, on CPUs."""

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.collective import sum_over_ranks


class LayerSync(TorchSyncBatchNorm):
    """Synchronises every BatchNorm layer of a network.

    Lightning's own does so by torch, which drops the activation of timm's BatchNorm layers that have one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def apply(self, model: nn.Module) -> nn.Module:
        if self.device.type != "cpu":
            return convert_sync_batchnorm(model)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.__class__ = CPUSyncBatchNorm
        return model


class CPUSyncBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` on CPUs: mean and variance of a training batch are those of all ranks' batches.

    It stands in the place of torch's layers and of timm's, which have `drop` and `act` after the normalisation.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(B, C, ...)`, each channel by itself; B may differ between ranks.

        Raises:
            ValueError: one value per channel in all, as torch does.
        """
        y = self._normalise(input) if self.training else super().forward(input)
        for name in ("drop", "act"):
            y = getattr(self, name, nn.Identity())(y)
        return y

    def _normalise(self, input: Tensor) -> Tensor:
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = sum_over_ranks(torch.cat([count * mean, count]))
        total, means = sums[-1], sums[:-1] / sums[-1]
        if total == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        # In a second sum: the mean of squares minus the square of the mean loses digits in float32.
        variances = sum_over_ranks(count * (variance + (mean - means).square())) / total
        self._track(means.detach(), variances.detach() * total / (total - 1))
        scale = (variances + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        shift = (0 if self.bias is None else self.bias) - means * scale
        shape = [1, -1] + [1] * (x.ndim - 2)
        return (x * scale.view(shape) + shift.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics, if there are any, towards those of a batch."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)
