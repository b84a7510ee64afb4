"""A transformer over patches of time, one channel at a time (PatchTST)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError
from foliocast.models.attention import EncoderBlock
from foliocast.models.heads import head_of
from foliocast.models.network import NetworkForecaster


class PatchTransformer(nn.Module):
    """Channel-independent patch transformer, (batch, time, feature) -> (batch, output).

    Nie et al. (2023), "A Time Series is Worth 64 Words": every feature's window is cut into overlapping patches,
    embedded by one shared layer, passed through one shared encoder, flattened. The heads of all channels are then
    added linearly: the target is another series (the next return), which the original does not have.
    """

    def __init__(
        self,
        n_features: int,
        window: int,
        patch: int,
        stride: int,
        width: int,
        layers: int,
        heads: int,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        self.tokens = (window - patch) // stride + 1
        self.embed = nn.Linear(patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.encoder = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        self.head = nn.Linear(n_features * self.tokens * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, channels = x.shape
        # patches end at the last bar: what does not fill a stride is left out at the old end
        skip = time - self.patch - self.stride * (self.tokens - 1)
        series = x[:, skip:].transpose(1, 2).reshape(batch * channels, time - skip)
        patches = series.unfold(1, self.patch, self.stride)
        encoded = self.encoder(self.embed(patches) + self.position)
        return self.head(encoded.reshape(batch, -1)).float()


def check_patches(patch: int, stride: int, window: int, width: int, heads: int) -> None:
    """A clear error where patches do not fit into the window or heads do not divide the width."""
    if not 1 <= patch <= window or stride < 1 or width % heads:
        raise ConfigError(
            f"patch = {patch}, stride = {stride}, width = {width}, heads = {heads}: a patch "
            f"must fit into the window of {window} bars, the stride be positive, and heads divide width"
        )


@dataclass(kw_only=True, eq=False, repr=False)
class TransformerForecaster(NetworkForecaster):
    """Channel-independent patch transformer (PatchTST) trained by AdamW on squared errors.

    Parameters
    ----------
    patch, stride : int
        Bars in a patch, bars between patches.
    width, layers, heads : int
        Of the encoder.
    others
        As in `NetworkForecaster`.
    """

    optimizer = "adamw"
    patch: int = 12
    stride: int = 6
    width: int = 32
    layers: int = 2
    heads: int = 4
    weight_decay: float = 1e-2

    def _network(self, n_features: int) -> nn.Module:
        check_patches(self.patch, self.stride, self.window, self.width, self.heads)
        outputs = head_of(self.head).width
        return PatchTransformer(
            n_features, self.window, self.patch, self.stride, self.width, self.layers, self.heads, outputs
        )
