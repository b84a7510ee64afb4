"""A transformer over patches of time, one channel at a time (PatchTST)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError
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
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(n_features * self.tokens * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, channels = x.shape
        # patches end at the last bar: what does not fill a stride is left out at the old end
        skip = time - self.patch - self.stride * (self.tokens - 1)
        series = x[:, skip:].transpose(1, 2).reshape(batch * channels, time - skip)
        patches = series.unfold(1, self.patch, self.stride)
        encoded = self.encoder(self.embed(patches) + self.position)
        return self.head(encoded.reshape(batch, -1)).float()


class TransformerForecaster(NetworkForecaster):
    """Channel-independent patch transformer (PatchTST) trained by AdamW on squared errors.

    Parameters
    ----------
    window, patch, stride : int
        Bars seen, bars in a patch, bars between patches.
    width, layers, heads : int
        Of the encoder.
    others
        As in `AttentionLSTM`.
    """

    optimizer = "adamw"

    def __init__(
        self,
        window: int = 60,
        patch: int = 12,
        stride: int = 6,
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
        lr: float = 3e-4,
        weight_decay: float = 1e-2,
        batch_size: int = 32,
        epochs: int = 15,
        patience: int | None = 3,
        valid_fraction: float = 0.15,
        pooled: bool = True,
        any_asset: bool = False,
        features: Sequence[str] | None = None,
        head: str = "point",
        n_paths: int = 500,
        volatility: str = "gjr",
        amp: str = "none",
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.window = window
        self.patch = patch
        self.stride = stride
        self.width = width
        self.layers = layers
        self.heads = heads
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.valid_fraction = valid_fraction
        self.pooled = pooled
        self.any_asset = any_asset
        self.features = features
        self.head = head
        self.n_paths = n_paths
        self.volatility = volatility
        self.amp = amp
        self.device = device
        self.random_state = random_state

    def _network(self, n_features: int) -> nn.Module:
        if not 1 <= self.patch <= self.window or self.stride < 1 or self.width % self.heads:
            raise ConfigError(
                f"patch = {self.patch}, stride = {self.stride}, width = {self.width}, heads = {self.heads}: a patch "
                f"must fit into the window of {self.window} bars, the stride be positive, and heads divide width"
            )
        outputs = head_of(self.head).width
        return PatchTransformer(
            n_features, self.window, self.patch, self.stride, self.width, self.layers, self.heads, outputs
        )
