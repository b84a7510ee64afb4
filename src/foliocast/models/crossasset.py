"""A transformer that looks across assets: time first, asset by asset, then every asset at all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError
from foliocast.features.windows import Windows
from foliocast.models.attention import EncoderBlock
from foliocast.models.heads import head_of
from foliocast.models.network import NetworkForecaster
from foliocast.models.transformer import check_patches
from foliocast.models.windowed import Predictor

DATES = 8  # dates predicted at a time, always padded to this


class CrossAssetNet(nn.Module):
    """Patches of time through an encoder of their own asset; the summaries of all assets attend to one another.

    (date, asset, time, feature), (date, asset) -> (date, asset, output). Assets carry no identity and no position: any
    number of them is served, and another order of the assets is the same answer in that order. The second argument
    says who may be looked at; the others are answered, too, and change nothing for anybody else.
    """

    def __init__(self, shape: tuple[int, int], patches: tuple[int, int], encoder: tuple[int, int, int, int], out: int):
        super().__init__()
        (features, window), (patch, stride), (width, layers, across, heads) = shape, patches, encoder
        self.patch, self.stride = patch, stride
        self.tokens = (window - patch) // stride + 1
        self.embed = nn.Linear(patch * features, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.time = nn.ModuleList(EncoderBlock(width, heads) for _ in range(layers))
        self.summary = nn.Linear(self.tokens * width, width)
        self.across = nn.ModuleList(EncoderBlock(width, heads) for _ in range(across))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        dates, assets, time, features = x.shape
        skip = time - self.patch - self.stride * (self.tokens - 1)  # patches end at the last bar
        series = x[:, :, skip:].reshape(dates * assets, time - skip, features)
        patches = series.unfold(1, self.patch, self.stride).reshape(dates * assets, self.tokens, -1)
        hidden = self.embed(patches) + self.position
        for layer in self.time:
            hidden = layer(hidden)
        tokens = self.summary(hidden.reshape(dates, assets, -1))
        for layer in self.across:
            tokens = layer(tokens, present)
        return self.head(self.norm(tokens)).float()


@dataclass(kw_only=True, eq=False, repr=False)
class CrossAssetTransformer(NetworkForecaster):
    """Patch transformer with attention across the assets of a date, trained by AdamW.

    Every asset is forecast from its own window and from those of all members of the universe at that date, whichever
    and however many they are. It has to be handed the whole cross-section: a panel of fewer assets is another question.

    Parameters
    ----------
    patch, stride : int
        Bars in a patch (all features together), bars between patches.
    width, layers, across, heads : int
        Of the encoders: ``layers`` over time, then ``across`` over assets.
    batch_size : int
        Dates in a batch.
    others
        As in `NetworkForecaster`.
    """

    optimizer = "adamw"
    joint = True
    patch: int = 10
    stride: int = 10
    width: int = 32
    layers: int = 1
    across: int = 1
    heads: int = 4
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 8

    def _network(self, n_features: int) -> nn.Module:
        check_patches(self.patch, self.stride, self.window, self.width, self.heads)
        if not self.pooled:
            raise ConfigError("pooled = False leaves no other asset to look at; use TransformerForecaster")
        return CrossAssetNet(
            (n_features, self.window),
            (self.patch, self.stride),
            (self.width, self.layers, self.across, self.heads),
            head_of(self.head).width,
        )

    def _evaluate(self, predictor: Predictor, windows: Windows, members: np.ndarray) -> np.ndarray:
        dates, row = np.unique(windows.ends, return_inverse=True)
        n_assets = windows.values.shape[1]
        table = np.full((len(dates), n_assets), -1)
        table[row, windows.assets] = np.arange(len(windows))
        seen = _seen(table >= 0, members[dates])

        def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            known = table[index] >= 0
            full = np.zeros((*known.shape, windows.length, windows.values.shape[2]), dtype=np.float32)
            full[known] = windows.take(table[index][known])
            return full, seen[index]

        out = _by_dates(predictor, take, len(dates))
        return out[row, windows.assets] if len(dates) else np.empty(0)

    def _mean_of(self, predictor: Predictor, windows: np.ndarray, members: np.ndarray) -> np.ndarray:
        seen = _seen(np.ones(windows.shape[:2], dtype=bool), members[None])
        return _by_dates(predictor, lambda index: (windows[index], seen[index]), len(windows)).ravel()

    def _draw_from(self, predictor: Any, windows: np.ndarray, members: np.ndarray, u: np.ndarray) -> np.ndarray:
        seen = _seen(np.ones(windows.shape[:2], dtype=bool), members[None])
        return predictor.draw(windows, u, seen)


def _seen(known: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Who is looked at, (date, asset): members with a full window; on a date without any, all with a full window."""
    both = known & members
    return np.where(both.any(axis=1, keepdims=True), both, known)


def _by_dates(predictor: Any, take: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    """A joint predictor over ``n`` dates, `DATES` at a time, the last batch padded, (date, asset)."""
    out = []
    for low in range(0, n, DATES):
        windows, seen = take(np.arange(low, min(low + DATES, n)))
        more = DATES - len(windows)
        windows = np.pad(windows, ((0, more), (0, 0), (0, 0), (0, 0)))
        out.append(predictor(windows, np.pad(seen, ((0, more), (0, 0)), constant_values=True))[: DATES - more])
    return np.concatenate(out) if out else np.empty((0, 0))
