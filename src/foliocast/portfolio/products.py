"""The three products with the scenario matrix that an interior-point iteration needs, on NumPy or on a torch device."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np
from scipy.linalg.blas import dsyrk, ssyrk

ROUGH_FROM = 100  # assets from which single precision is worth its conversion
_CHUNK = 1024  # rows scaled at a time: the scaled copy stays in cache and memory does not grow with the scenarios
_KEEP = 1e-12  # rows whose curvature is this small beside the largest do not move a Newton step


class Products(Protocol):
    """Products with R (scenario, asset), ``R w + offset`` being the returns in units of ``scale``."""

    shape: tuple[int, int]

    def dot(self, w: np.ndarray) -> np.ndarray:
        """``R w + offset``, (scenario,)."""
        ...

    def push(self, dw: np.ndarray) -> np.ndarray:
        """``R dw`` without the offset, (scenario,)."""
        ...

    def tdot(self, y: np.ndarray) -> np.ndarray:
        """``R' y`` for y (scenario,) or (scenario, k)."""
        ...

    def gram(self, d: np.ndarray, rough: bool = False) -> np.ndarray:
        """``R' diag(d) R`` for d >= 0, lower triangle filled, (asset, asset). ``rough`` allows single precision."""
        ...

    def take(self, rows: np.ndarray) -> Products:
        """The same products over some of the scenarios."""
        ...


def _heavy(d: np.ndarray) -> np.ndarray | None:
    """Rows that matter for a weighted Gram matrix, or None when nearly all do."""
    rows = np.flatnonzero(d > _KEEP * d.max(initial=0.0))
    return rows if len(rows) < 0.8 * len(d) else None


class NumpyProducts:
    """Products by BLAS in this process.

    Parameters
    ----------
    returns : ndarray, shape (scenario, asset)
        Not copied when it is a C-ordered float64 array.
    scale : float
        Returns are divided by it.
    offset : ndarray, shape (scenario,), or None
        Return of positions that are fixed, in the units of ``returns``.
    """

    def __init__(self, returns: np.ndarray, scale: float = 1.0, offset: np.ndarray | None = None) -> None:
        self.returns = np.ascontiguousarray(returns, dtype=float)
        self.shape: tuple[int, int] = (self.returns.shape[0], self.returns.shape[1])
        self.scale = scale
        self.offset = None if offset is None else offset / scale

    def dot(self, w: np.ndarray) -> np.ndarray:
        out = self.push(w)
        return out if self.offset is None else out + self.offset

    def push(self, dw: np.ndarray) -> np.ndarray:
        return self.returns @ (dw / self.scale)

    def tdot(self, y: np.ndarray) -> np.ndarray:
        return (self.returns.T @ y) / self.scale

    def gram(self, d: np.ndarray, rough: bool = False) -> np.ndarray:
        rows, n = _heavy(d), self.shape[1]
        rough = rough and n >= ROUGH_FROM
        kind, syrk = (np.float32, ssyrk) if rough else (np.float64, dsyrk)
        total = np.zeros((n, n), dtype=kind, order="F")
        root = np.sqrt(d) / self.scale
        for start in range(0, len(d) if rows is None else len(rows), _CHUNK):
            piece = slice(start, start + _CHUNK) if rows is None else rows[start : start + _CHUNK]
            block = (self.returns[piece] * root[piece, None]).astype(kind, copy=False)
            total = syrk(1.0, block.T, beta=1.0, c=total, overwrite_c=1, lower=1)
        return total.astype(float, copy=False)

    def take(self, rows: np.ndarray) -> NumpyProducts:
        part = NumpyProducts(self.returns[rows], self.scale)
        part.offset = None if self.offset is None else self.offset[rows]
        return part


class TorchProducts:
    """The same products on a torch device, in double precision; vectors stay on the host.

    Parameters
    ----------
    device : str
        ``"cuda"``, ``"cuda:1"``, ``"cpu"``...
    """

    def __init__(
        self, returns: np.ndarray, scale: float = 1.0, offset: np.ndarray | None = None, device: str = "cuda"
    ) -> None:
        import torch

        self._torch, self._device = torch, torch.device(device)
        # a copy, because torch does not take read-only arrays without a warning
        self._returns = torch.as_tensor(np.array(returns, dtype=float), device=self._device)
        self.shape: tuple[int, int] = (self._returns.shape[0], self._returns.shape[1])
        self.scale = scale
        self.offset = None if offset is None else offset / scale

    def _there(self, values: np.ndarray) -> Any:
        return self._torch.as_tensor(np.ascontiguousarray(values), device=self._device)

    def dot(self, w: np.ndarray) -> np.ndarray:
        out = self.push(w)
        return out if self.offset is None else out + self.offset

    def push(self, dw: np.ndarray) -> np.ndarray:
        return (self._returns @ self._there(dw / self.scale)).cpu().numpy()

    def tdot(self, y: np.ndarray) -> np.ndarray:
        return (self._returns.T @ self._there(y / self.scale)).cpu().numpy()

    def gram(self, d: np.ndarray, rough: bool = False) -> np.ndarray:
        block = self._returns * self._there(np.sqrt(d) / self.scale)[:, None]
        return (block.T @ block).cpu().numpy()

    def take(self, rows: np.ndarray) -> TorchProducts:
        part = copy.copy(self)
        part._returns = self._returns[self._torch.as_tensor(rows, device=self._device)]
        part.shape = (len(rows), self.shape[1])
        part.offset = None if self.offset is None else self.offset[rows]
        return part


def products(
    returns: np.ndarray, scale: float = 1.0, offset: np.ndarray | None = None, device: str | None = None
) -> Products:
    """Products on the host (``device=None``) or on a torch device."""
    if device is None:
        return NumpyProducts(returns, scale, offset)
    return TorchProducts(returns, scale, offset, device)
