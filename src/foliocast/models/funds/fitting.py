"""How the parts of the fund generator are fitted; the loop itself is `models.training.train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from foliocast.features.funds import NUMBERS
from foliocast.models.funds.augment import Augmenter
from foliocast.models.funds.conditions import SHAPE, Keys, Tower, Towers, drop
from foliocast.models.funds.latent import LatentNetwork, latent_loss
from foliocast.models.funds.memory import Carried, Carry, Earlier, Memory
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
    memory : Memory
        The same filings, to go back from each to earlier ones of its fund.
    """

    weights: sparse.csr_matrix
    words: Tensor
    numbers: Tensor
    universe: Tensor
    attributes: Tensor
    importance: Tensor
    memory: Memory

    def rows(self, index: Tensor) -> Tensor:
        return torch.tensor(self.weights[index.numpy()].toarray(), dtype=torch.float32)

    def shape(self, index: Tensor) -> Tensor:
        """Scaled `SHAPE`."""
        return self.numbers[index][:, [NUMBERS.index(name) for name in SHAPE]]

    def earlier(self, index: Tensor, rows: Sequence[int | None]) -> Earlier:
        """Books of other rows, as earlier ones of these; None for none."""
        there = torch.tensor([row is not None for row in rows])
        at = torch.tensor([0 if row is None else row for row in rows])
        days = torch.tensor(self.memory.as_of)
        age = (days[index] - days[at]).float() / 365.25
        weights = self.rows(at) * self.universe[index] * there[:, None]
        asked = self.words[index].numpy()
        heard = [self.memory.heard(int(row), asked[k]) for k, row in enumerate(at)]
        return Earlier(weights, age, torch.tensor(np.stack(heard)).long(), self.numbers[at])

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


class Expectation:
    """What is expected of the latent and the shape of training filings under a description, and what they are.

    Parameters
    ----------
    vae, tower, carry : HoldingsVAE, Towers, Carry
        Fitted already, all but what is being fitted.
    data : FundData

    Attributes
    ----------
    encoded : Tensor, shape (filing, latent + 3)
    scale : Tensor, shape (latent + 3,)
        How far the first lies from the second where no earlier book is known; one for the shape.
    """

    def __init__(self, vae: HoldingsVAE, tower: Towers, carry: Carry, data: FundData) -> None:
        self.tower, self.carry, self.data = tower.eval(), carry, data
        with torch.no_grad():
            self.codes = vae.eval().codes(data.attributes)
            self.keys = tower.keys(data.attributes, self.codes)
            parts = torch.arange(data.weights.shape[0]).split(256)
            latent = torch.cat([vae.encode(data.rows(i), self.codes, data.attributes)[0] for i in parts])
            self.encoded = torch.cat([latent, torch.cat([data.shape(i) for i in parts])], dim=1)
            nothing = [self.mean(self.plain(i, data.words[i], data.numbers[i])) for i in parts]
        rest = self.encoded - torch.cat(nothing)
        one = rest[:, : vae.latent].pow(2).mean().sqrt().expand(vae.latent)
        self.scale = torch.cat([one, torch.ones(len(SHAPE))])  # as little as the words may say of the shape

    @torch.no_grad()
    def scores(self, i: Tensor, words: Tensor, numbers: Tensor) -> Tensor:
        """Log-likelihood of the securities there are at the date, (filing, security)."""
        scores = self.tower(words, numbers, self.keys).masked_fill(~self.data.universe[i], -1e9)
        return torch.log_softmax(scores, dim=1)

    @torch.no_grad()
    def plain(self, i: Tensor, words: Tensor, numbers: Tensor) -> Carried:
        """Without earlier books."""
        nothing = torch.zeros(len(i)), self.tower.expected_shape(words, numbers), torch.ones(len(i), 1 + len(SHAPE))
        return Carried(self.scores(i, words, numbers), *nothing)

    def given(self, i: Tensor, words: Tensor, numbers: Tensor, earlier: Earlier) -> Carried:
        """With earlier books; they say more of a manager than his name, which the towers are not told then."""
        told = words.clone()
        told[earlier.there, 0] = 0
        now = self.plain(i, told, numbers)
        then, there = now.log_likely.clone(), earlier.there
        if there.any():
            w, x = earlier.then(told, numbers)
            then[there] = self.scores(i[there], w[there], x[there])
        return self.carry(now.log_likely, then, now.shape, earlier)

    def mean(self, carried: Carried) -> Tensor:
        """Latent of the mean portfolio, and the expected shape beside it, (filing, latent + 3)."""
        return torch.cat([carried.log_likely.exp() @ self.codes, carried.shape], dim=1)

    def spread(self, carried: Carried) -> Tensor:
        """`Carried.spread` of every dimension, (filing, latent + 3)."""
        latent = self.codes.shape[1]
        return torch.cat([carried.spread[:, :1].expand(-1, latent), carried.spread[:, 1:]], dim=1)


def fit_carry(carry: Carry, ahead: Expectation, seed: int, report: Report, most: int = 600) -> None:
    """Fit how much of an earlier book carries over, on pairs of filings of the same fund: the last known, or any.

    First the mixture by the cross-entropy of the weights, then the shape and the spread by the Gaussian likelihood of
    how far the latent lies from what was expected. Descriptions are left out at random, as everywhere.
    """
    data = ahead.data
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    chosen = rng.permutation(data.weights.shape[0])
    found = [(i, data.memory.earlier(i, None if rng.random() < 0.6 else rng)) for i in chosen]
    pairs = [(i, j) for i, j in found if j is not None][:most]
    if not pairs:
        return
    i = torch.tensor([pair[0] for pair in pairs])
    earlier = data.earlier(i, [pair[1] for pair in pairs])
    words, numbers = drop(data.words[i], data.numbers[i], generator)
    words[:, 0] = 0
    now, then = ahead.plain(i, words, numbers), ahead.scores(i, *earlier.then(words, numbers))
    weights, weight = data.rows(i), data.importance[i] / data.importance[i].sum()

    def entropy() -> Tensor:
        likely = carry(now.log_likely, then, now.shape, earlier).log_likely
        return (-(weights * likely.clamp(min=-30.0)).sum(dim=1) * weight).sum()

    def distance() -> Tensor:
        carried = carry(now.log_likely, then, now.shape, earlier)
        gap = ((ahead.encoded[i] - ahead.mean(carried)) / ahead.scale).pow(2)
        latent = ahead.codes.shape[1]
        squared = torch.cat([gap[:, :latent].mean(dim=1, keepdim=True), gap[:, latent:]], dim=1)
        return ((carried.spread.log() + squared / (2 * carried.spread**2)).sum(dim=1) * weight).sum()

    for loss, learnt in ((entropy, [carry.share, carry.lean]), (distance, [carry.habit, carry.width])):
        last = _minimised(loss, learnt)
        report("carry", {"epoch": 1.0, "train_loss": last})


def _minimised(loss: Callable[[], Tensor], parameters: list[nn.Parameter], prior: float = 1e-4) -> float:
    """Value of a smooth loss of a few parameters at its minimum, where they are left; held weakly where they began."""
    begun = [parameter.detach().clone() for parameter in parameters]
    search = torch.optim.LBFGS(parameters, lr=0.5, max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss() + sum(prior * (p - b).pow(2).sum() for p, b in zip(parameters, begun))
        value.backward()
        return value

    return float(search.step(closure).detach())


def fit_latent(network: LatentNetwork, ahead: Expectation, epochs: int, seed: int, report: Report) -> None:
    """Fit the denoiser on what is left of the latents when what was expected is taken away.

    For half of the filings of which there is an earlier one, that is known. Without epochs the network stays zero
    and stands for a Gaussian.
    """
    if epochs == 0:
        return
    data, latent = ahead.data, ahead.codes.shape[1]
    emphasis = torch.cat([torch.ones(latent), torch.full((len(SHAPE),), latent / 16.0)])

    def loss(module: LatentNetwork, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        i = batch[0]
        words, numbers = drop(data.words[i], data.numbers[i], generator)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        known = [data.memory.earlier(int(k), None if rng.random() < 0.6 else rng) for k in i]
        known = [row if rng.random() < 0.5 else None for row in known]
        with torch.no_grad():
            carried = ahead.given(i, words, numbers, data.earlier(i, known))
            mean, scale = ahead.mean(carried), ahead.scale * ahead.spread(carried)
        x0 = (ahead.encoded[i] - mean) / scale
        noise = torch.randn(mean.shape, generator=generator)
        sigma = torch.exp(-0.2 + 1.3 * torch.randn(len(i), generator=generator))
        about = mean / ahead.scale
        return latent_loss(module, x0, sigma, noise, words, numbers, about, data.importance[i], emphasis)

    spec = TrainingSpec("adamw", 5e-4, 1e-2, 64, epochs, ema=0.995, schedule="cosine", seed=seed)
    train(network, data.samples(), loss, spec, callback=lambda row: report("latent", row))
