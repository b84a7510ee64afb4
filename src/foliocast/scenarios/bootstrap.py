"""Block bootstrap of joint returns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator

from foliocast.core.conditions import Condition
from foliocast.core.errors import ConfigError
from foliocast.core.scenario_base import Bars, ScenarioMixin
from foliocast.scenarios.paths import PathLaw, path_sampler
from foliocast.scenarios.shocks import EmpiricalShocks
from foliocast.stats.tails import radius_degrees


class BlockBootstrap(ScenarioMixin, BaseEstimator):
    """Past days again, all assets of a date together, in blocks of random length.

    The stationary bootstrap of Politis & Romano (1994); ``block_length = 1`` is the i.i.d. bootstrap. Paths start
    anywhere in the history: today's volatility plays no part, which is what the filtered models add.

    Parameters
    ----------
    block_length : float
        Expected bars in a block.
    window : int, optional
        Only the last so many rows of the history are resampled; default: all.
    random_state : int or Generator, optional
    """

    def __init__(
        self,
        block_length: float = 10.0,
        window: int | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        self.block_length = block_length
        self.window = window
        self.random_state = random_state

    def _learn(self, bars: Bars) -> None:
        if self.block_length < 1:
            raise ConfigError(f"block_length = {self.block_length}: a block holds at least 1 bar")

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        bank = (bars if self.window is None else bars.tail(self.window)).log_returns
        nu = 6.0 if condition.empty else radius_degrees(bank)
        return path_sampler(
            PathLaw(EmpiricalShocks(bank, self.block_length, nu), np.zeros(bank.shape[1])), horizon, condition
        )
