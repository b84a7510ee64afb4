"""How the three parts of the fund generator are fitted; the loop itself is `models.training.train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from foliocast.features.funds import NUMBERS
from foliocast.models.funds.augment import Augmenter
from foliocast.models.funds.conditions import SHAPE, Keys, Tower, Towers, drop
from foliocast.models.funds.latent import LatentNetwork, latent_loss
from foliocast.models.funds.vae import HoldingsVAE, vae_loss
from foliocast.models.training import TensorSamples, TrainingSpec, train

Report = Callable[[str, dict[str, float]], None]


@dataclass
class FundData:
    """Training filings as tensors.

    Parameters
    ----------
    weights : csr_matrix, shape (filing, security)
    words, numbers : Tensor
        Condition tokens (`features.funds.tokens_of`).
    universe : Tensor of bool, shape (filing, security)
    attributes : Tensor, shape (security, ATTRIBUTES)
    importance : Tensor, shape (filing,)
        Weight in the loss: funds with many filings count less for each.
    """

    weights: sparse.csr_matrix
    words: Tensor
    numbers: Tensor
    universe: Tensor
    attributes: Tensor
    importance: Tensor

    def rows(self, index: Tensor) -> Tensor:
        return torch.tensor(self.weights[index.numpy()].toarray(), dtype=torch.float32)

    def shape(self, index: Tensor) -> Tensor:
        """Scaled `SHAPE`."""
        return self.numbers[index][:, [NUMBERS.index(name) for name in SHAPE]]

    def samples(self) -> TensorSamples:
        return TensorSamples(torch.arange(self.weights.shape[0]))


def fit_vae(vae: HoldingsVAE, data: FundData, epochs: int, seed: int, report: Report, beta: float = 1e-4) -> None:
    """Fit codes, correction and spread; each batch is decoded over its holdings and 1,500 other securities."""
    n = data.weights.shape[1]
    vae.learnt.data.copy_(torch.tensor(item_factors(data.weights, vae.latent)))
    if epochs == 0:
        return

    def loss(module: HoldingsVAE, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        weights = data.rows(batch[0])
        others = torch.randperm(n, generator=generator)[:1500]
        columns = torch.unique(torch.cat([weights.any(dim=0).nonzero()[:, 0], others]))
        noise = torch.randn(len(weights), module.latent, generator=generator)
        return vae_loss(module, weights, data.attributes, columns, noise, beta)

    spec = TrainingSpec("adam", 1e-3, 0.0, 32, epochs, ema=0.99, schedule="cosine", seed=seed)
    train(vae, data.samples(), loss, spec, callback=lambda row: report("vae", row))


def item_factors(weights: sparse.csr_matrix, rank: int) -> np.ndarray:
    """Right singular vectors of the square roots of the weights, rows of at most unit length: who is held together."""
    k = min(rank, min(weights.shape) - 1)
    start = np.ones(min(weights.shape))
    _, values, right = svds(sparse.csr_matrix(weights.sqrt()).astype(float), k=k, v0=start)
    factors = right.T * (values / values.max())
    factors /= np.maximum(np.linalg.norm(factors, axis=1, keepdims=True), 1e-3)
    mass = np.asarray(weights.sqrt().sum(axis=0)).reshape(-1, 1)
    factors *= mass / (mass + 0.5)  # a security that is hardly held says hardly anything of itself
    return np.pad(factors, ((0, 0), (0, rank - k))).astype(np.float32)


def fit_tower(
    tower: Tower, data: FundData, codes: Tensor, augment: Augmenter, epochs: int, seed: int, report: Report
) -> None:
    """Cross-entropy of the weights against the softmax of the scores over the universe at the date.

    Part of each batch is synthetic funds (`Augmenter`).
    """
    held = data.weights.T @ data.importance.numpy()
    level = torch.tensor(np.log(held + 0.003), dtype=torch.float32)
    tower.popularity.data.copy_(level - level.mean())

    def loss(module: Tower, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        i = batch[0]
        one = int(torch.randint(2**62, (1,), generator=generator))
        # Of a synthetic fund only the names are learnt: how many names there are is a habit of real ones.
        weights, words, numbers, real = augment(i, data.words[i], data.numbers[i], one)
        words, numbers = drop(words, numbers, generator)
        keys = Keys(data.attributes, codes, module.learnt, module.popularity)
        outside = ~data.universe[i] & (weights == 0)
        scores = module(words, numbers, keys).masked_fill(outside, -1e9)
        entropy = -(weights * torch.log_softmax(scores, dim=1)).sum(dim=1)
        shape = (module.expected_shape(words, numbers) - data.shape(i)).pow(2).sum(dim=1) * real
        # What is learnt of single securities is held down hard: a few hundred funds say little about each.
        return ((entropy + 0.3 * shape) * data.importance[i]).mean() + 2e-4 * module.learnt.pow(2).sum()

    spec = TrainingSpec("adamw", 1.5e-3, 1e-2, 64, epochs, ema=0.99, schedule="cosine", seed=seed)
    train(tower, data.samples(), loss, spec, callback=lambda row: report("tower", row))


@torch.no_grad()
def expected(tower: Towers, words: Tensor, numbers: Tensor, keys: Keys, universe: Tensor) -> Tensor:
    """Mean portfolio the tower expects, (prompt, security)."""
    return torch.softmax(tower(words, numbers, keys).masked_fill(~universe, -1e9), dim=1)


@torch.no_grad()
def _means(tower: Towers, codes: Tensor, data: FundData, i: Tensor, words: Tensor, numbers: Tensor) -> Tensor:
    """Latent of the mean portfolio, and the expected shape beside it."""
    keys = tower.keys(data.attributes, codes)
    mean = expected(tower, words, numbers, keys, data.universe[i]) @ codes
    return torch.cat([mean, tower.expected_shape(words, numbers)], dim=1)


def fit_latent(
    network: LatentNetwork, vae: HoldingsVAE, tower: Towers, data: FundData, epochs: int, seed: int, report: Report
) -> Tensor:
    """Fit the denoiser on what the tower's expectations leave unexplained; returns the scale of that, (latent + 3,).

    Without epochs the network stays zero and stands for a Gaussian of that scale.
    """
    tower.eval()
    vae.eval()
    with torch.no_grad():
        codes = vae.codes(data.attributes)
        parts = torch.arange(data.weights.shape[0]).split(256)
        encoded = torch.cat([vae.encode(data.rows(i), codes, data.attributes)[0] for i in parts])
        encoded = torch.cat([encoded, torch.cat([data.shape(i) for i in parts])], dim=1)
        rest = encoded - torch.cat([_means(tower, codes, data, i, data.words[i], data.numbers[i]) for i in parts])
        one = rest[:, : vae.latent].pow(2).mean().sqrt().expand(vae.latent)
        scale = torch.cat([one, torch.ones(len(SHAPE))])  # as little as the words may say of the shape
    if epochs == 0:
        return scale
    emphasis = torch.cat([torch.ones(vae.latent), torch.full((len(SHAPE),), vae.latent / 16.0)])

    def loss(module: LatentNetwork, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        i = batch[0]
        words, numbers = drop(data.words[i], data.numbers[i], generator)
        mean = _means(tower, codes, data, i, words, numbers)
        x0 = (encoded[i] - mean) / scale
        noise = torch.randn(mean.shape, generator=generator)
        sigma = torch.exp(-0.2 + 1.3 * torch.randn(len(i), generator=generator))
        return latent_loss(module, x0, sigma, noise, words, numbers, mean / scale, data.importance[i], emphasis)

    spec = TrainingSpec("adamw", 5e-4, 1e-2, 64, epochs, ema=0.995, schedule="cosine", seed=seed)
    train(network, data.samples(), loss, spec, callback=lambda row: report("latent", row))
    return scale
