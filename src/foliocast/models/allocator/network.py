"""The network of the end-to-end allocator: what each asset has been through, beside the others and what is held."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from foliocast.core.errors import ConfigError
from foliocast.models.allocator.heads import Rules, capped, project, weigh

ENCODERS = ("mlp", "lstm")
TRADING = ("free", "partial", "band")


class AllocationNet(nn.Module):
    """Windows of all assets and the weights held, to weights. Assets are tokens without identity.

    One encoder is shared by all assets; attention over the assets of a bar lets each know of the others; a head turns
    what it knows, and what is held, into weights.

    Parameters
    ----------
    n_features, window : int
    encoder : {"mlp", "lstm"}
    hidden, heads : int
        Width, and attention heads across assets (0: assets do not see each other).
    rules : Rules
    trading : {"free", "partial", "band"}
        From target to weights: go there at once; go a learnt share of the way (the optimum under quadratic costs;
        Garleanu and Pedersen, 2013); go to the edge of a learnt band around the target (the optimum under
        proportional costs; Davis and Norman, 1990).
    """

    def __init__(
        self, n_features: int, window: int, encoder: str, hidden: int, heads: int, rules: Rules, trading: str
    ) -> None:
        super().__init__()
        if encoder not in ENCODERS or trading not in TRADING:
            raise ConfigError(
                f"encoder = {encoder!r}, trading = {trading!r}; choose from {', '.join(ENCODERS)} and "
                f"{', '.join(TRADING)}"
            )
        if heads and hidden % heads:
            raise ConfigError(f"heads = {heads} must divide hidden = {hidden}")
        self.rules, self.trading = rules, trading
        flat = n_features * window
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True) if encoder == "lstm" else None
        self.mlp = nn.Sequential(nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.norm = nn.LayerNorm(hidden)
        self.across = nn.MultiheadAttention(hidden, heads, batch_first=True) if heads else None
        self.skip = nn.Linear(flat, 1)
        self.held = nn.Linear(2, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.pace = nn.Linear(hidden, 1)
        for layer in (self.skip, self.held, self.score, self.pace):
            nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(self.skip.bias)
        nn.init.constant_(self.pace.bias, 0.0 if trading == "partial" else -2.0)

    def encode(self, windows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What does not depend on what is held: (bar, asset, time, feature) -> state, direct score and pace."""
        bars, assets = mask.shape
        flat = windows.reshape(bars, assets, -1)
        if self.lstm is None:
            state = self.mlp(flat)
        else:
            state = self.lstm(windows.reshape(bars * assets, *windows.shape[2:]))[0][:, -1].reshape(bars, assets, -1)
        if self.across is not None:
            empty = ~mask.any(dim=1, keepdim=True)  # attention over nobody is undefined; such rows are masked later
            tokens = self.norm(state)
            others, _ = self.across(tokens, tokens, tokens, key_padding_mask=~(mask | empty), need_weights=False)
            state = state + others
        return state, self.skip(flat)[..., 0], self.pace(functional.silu(state))[..., 0]

    def decide(
        self, encoded: tuple[Tensor, Tensor, Tensor], mask: Tensor, held: Tensor, history: Tensor | None = None
    ) -> Tensor:
        """Weights (bar, asset) for what was encoded and what is held (bar, asset)."""
        state, direct, pace = encoded
        known = torch.stack([held, held.abs().sum(dim=1, keepdim=True).expand_as(held)], dim=2)
        scores = direct + self.score(functional.silu(state + self.held(known)))[..., 0]
        target = weigh(scores, mask, self.rules, history)
        if self.trading == "free":
            return target
        return self._towards(target, torch.where(mask, held, 0.0), pace, mask)

    def _towards(self, target: Tensor, held: Tensor, pace: Tensor, mask: Tensor) -> Tensor:
        gap = target - held
        step = torch.sigmoid(pace) * gap if self.trading == "partial" else _beyond(gap, pace)
        nothing = held.abs().sum(dim=1, keepdim=True) < 1e-6  # the first purchase goes all the way
        moved = torch.where(nothing, target, held + step)
        if self.rules.head == "long_short":
            return capped(moved, self.rules.gross)
        if self.rules.cash:
            return capped(moved.clamp(min=0.0), self.rules.gross)
        onto = project(torch.where(mask, moved / self.rules.gross, -1e9))
        return self.rules.gross * torch.where(mask, onto, 0.0)


def _beyond(gap: Tensor, pace: Tensor) -> Tensor:
    """What of a gap lies outside the band, whose half width is a fifth of softplus(pace)."""
    width = 0.2 * functional.softplus(pace)
    return torch.sign(gap) * torch.clamp(gap.abs() - width, min=0.0)
