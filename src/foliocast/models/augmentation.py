"""`FactorAugmenter`: more training samples for a predictor, by editing the ones it has with a diffusion model.

Gao et al. (2024), "DiffsFormer: a diffusion transformer on stock factor augmentation", arXiv 2402.06656: a diffusion
transformer learns windows of factors on a broad panel; a predictor's training samples are noised part of the way and
denoised towards their own label and sector, and go beside the originals. Whether it helps is another question:
`foliocast augment` asks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.models.diffusion.dit import DiT
from foliocast.models.diffusion.editing import RowNetwork, edit
from foliocast.models.diffusion.fitting import CENTRE, DENOISING, SPREAD, earned_share
from foliocast.models.diffusion.guidance import ClassifierFree
from foliocast.models.diffusion.preconditioning import WIENER, Context, GaussianPrior, Preconditioned, denoising_loss
from foliocast.models.diffusion.process import training_sigmas
from foliocast.models.diffusion.samplers import sampler_named
from foliocast.models.training import (
    TensorSamples,
    TrainingResult,
    TrainingSpec,
    chronological_split,
    initialised,
    seed_of,
    train,
)

UNSAID = -1
CHUNK = 2048  # samples edited at a time
VALIDATION = 0.15
RIDGE = 1e-3  # on the correlation of a window's entries: collinear factors must not be known exactly

TRAINING = replace(DENOISING, batch_size=256, epochs=50, max_steps=300, patience=5, ema=0.99)


@dataclass(frozen=True)
class Conditions:
    """Label class and sector of samples as numbers; `UNSAID` where nothing is known.

    Parameters
    ----------
    label, sector : Tensor of int, shape (sample,)
    """

    label: Tensor
    sector: Tensor

    def at(self, index: Tensor | slice) -> Conditions:
        """Only these samples."""
        return Conditions(self.label[index], self.sector[index])


@dataclass(frozen=True)
class Means:
    """What a label and a sector say about the mean of a window: additive, and only as far as held-out samples agree.

    Parameters
    ----------
    label, sector : Tensor, shape (class + 1, time * factor)
        Departure from the overall mean; the last row, which `UNSAID` picks, is zero.
    """

    label: Tensor
    sector: Tensor

    def of(self, said: Conditions) -> Tensor:
        """(sample, 1, time * factor)."""
        return (self.label[said.label] + self.sector[said.sector]).unsqueeze(1)


class FactorAugmenter(BaseEstimator):
    """Diffusion model of factor windows given label and sector, and an editor of samples.

    A window is taken as one Gaussian vector plus what a `DiT` makes of it (`preconditioning.Wiener`): means given label
    and sector, the covariance over bars and factors, and the network count only as far as samples held out in time
    support them. With nothing to learn it is the Gaussian posterior sampler.

    Parameters
    ----------
    n_labels : int
        Classes of equal size that the labels are cut into.
    guidance : float
        Classifier-free guidance towards label and sector: 0 ignores them, 1 takes them at their word, above 1
        exaggerates.
    sampler : {"ddpm", "dpm", "ddim", "heun"}
        "ddpm" draws from the posterior; the others walk the deterministic flow back.
    steps : int
        Denoising steps of an edit of any strength.
    width, depth : int
        Of the network.
    drop_rate : float
        Share of training samples that are shown without label and sector; as many again without sector.
    training : TrainingSpec, optional
        Default: at most 300 steps of AdamW with early stopping.
    random_state : int

    Attributes
    ----------
    knowledge_until_ : Timestamp or None
        When the last label that it learnt from became known; None if ``fit`` was not told.
    label_share_, sector_share_, shrinkage_ : float
        How much of the label means, sector means and network the held-out samples support, in [0, 1].
    gain_ : float
        Share of the held-out denoising error that the network removes.
    label_edges_ : ndarray, shape (n_labels - 1,)
    sectors_ : tuple of str
    training_ : TrainingResult

    Notes
    -----
    Gao et al. (2024) train on a broad source panel and edit the target's samples, so ``fit`` and ``edit`` may see
    different assets. Nothing here stops an edit from being shown to the wrong eyes: edited samples belong into the
    training set of a predictor and nowhere else.
    """

    knowledge_until_: pd.Timestamp | None
    training_: TrainingResult

    def __init__(
        self,
        n_labels: int = 5,
        guidance: float = 1.5,
        sampler: str = "ddpm",
        steps: int = 3,
        width: int = 32,
        depth: int = 2,
        drop_rate: float = 0.15,
        training: TrainingSpec | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_labels = n_labels
        self.guidance = guidance
        self.sampler = sampler
        self.steps = steps
        self.width = width
        self.depth = depth
        self.drop_rate = drop_rate
        self.training = training
        self.random_state = random_state

    # ---- fitting
    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sector: np.ndarray | None = None,
        known_at: pd.DatetimeIndex | np.ndarray | None = None,
    ) -> Self:
        """Learn the law of factor windows.

        Parameters
        ----------
        X : ndarray, shape (sample, time, factor)
            Finite. Samples in order of time unless ``known_at`` says when they were.
        y : ndarray, shape (sample,)
            Labels (forward returns), finite.
        sector : ndarray of str, shape (sample,), optional
            Empty or None where unknown.
        known_at : datetimes, shape (sample,), optional
            When each label became known. Without it ``edit`` cannot vouch for any date.

        Raises
        ------
        DataError
            Values that are not finite, or shapes that disagree.
        """
        X, y = self._samples(X, y)
        if self.n_labels < 2 or not 0 <= self.drop_rate < 0.5:
            raise ConfigError(f"n_labels = {self.n_labels}, drop_rate = {self.drop_rate}: at least 2, and below 0.5")
        if not np.isfinite(y).all():
            raise DataError("labels hold NaN or infinite values; leave samples without a label out of the fit")
        times = None if known_at is None else pd.DatetimeIndex(known_at)
        if times is not None and len(times) != len(X):
            raise DataError(f"{len(times)} times for {len(X)} samples: known_at needs one a sample")
        self.knowledge_until_ = None if times is None else times.max()
        self.label_edges_ = np.quantile(y, np.arange(1, self.n_labels) / self.n_labels)
        names = self._names(sector, len(X))
        self.sectors_ = tuple(sorted(set(names) - {""}))
        self.shape_ = X.shape[1:]
        positions = np.arange(len(X)) if times is None else np.unique(times, return_inverse=True)[1]
        seen, held = chronological_split(positions, VALIDATION, 2 * X.shape[1])
        self._fit_gaussian(X, Conditions(self._label(y), self._sector(names)), seen, held)
        return self

    def _fit_gaussian(self, X: np.ndarray, said: Conditions, seen: np.ndarray, held: np.ndarray) -> None:
        self.mean_ = X[seen].mean(axis=(0, 1))
        spread = X[seen].std(axis=(0, 1))
        self.scale_ = np.where(spread > 0, spread, 1.0)
        z = self._rows(X)
        one, two = torch.from_numpy(seen), torch.from_numpy(held)
        centre = z[one].mean(dim=0)
        self.label_share_, label = _class_means(z - centre, said.label, one, two, self.n_labels)
        self.sector_share_, sector = _class_means(z - centre, said.sector, one, two, len(self.sectors_))
        self.means_ = Means(label, sector)
        rest = (z - centre - self.means_.of(said)[:, 0])[one]
        covariance = rest.T @ rest / len(rest)
        covariance = covariance + RIDGE * torch.eye(len(covariance))
        self.prior_ = GaussianPrior.of(covariance, centre.reshape(1, 1, -1))
        self._fit_network(z.unsqueeze(1), said, one, two)

    def _fit_network(self, z: Tensor, said: Conditions, seen: Tensor, held: Tensor) -> None:
        seed = seed_of(self.random_state, 91) % 2**31
        n_state = self.shape_[1] + self.n_labels + len(self.sectors_)
        net = initialised(lambda: DiT(self.width, self.depth, 2, patch=self.shape_[0], n_state=n_state), seed)
        denoiser = Preconditioned(RowNetwork(net, self.shape_[0]), WIENER)
        fit, valid = (TensorSamples(z[index], said.label[index], said.sector[index]) for index in (seen, held))
        spec = replace(TRAINING if self.training is None else self.training, seed=seed)
        self.training_ = train(denoiser, fit, self._loss, spec, validation=valid if len(valid) else None)
        if len(held):
            denoiser.shrinkage, self.gain_ = earned_share(
                denoiser, self._held_out(z, said, held), torch.Generator().manual_seed(seed)
            )
        else:  # nothing can vouch for the network
            denoiser.shrinkage, self.gain_ = 0.0, 0.0
        self.denoiser_, self.shrinkage_ = denoiser, denoiser.shrinkage

    def _held_out(self, z: Tensor, said: Conditions, held: Tensor) -> Iterator[tuple[Tensor, Context]]:
        for index in held.split(512):
            yield z[index], self._context(said.at(index))

    def _loss(self, denoiser: Preconditioned, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        x0, label, sector = batch
        chance = torch.rand(len(x0), generator=generator)
        label = torch.where(chance < self.drop_rate, UNSAID, label)
        sector = torch.where(chance < 2 * self.drop_rate, UNSAID, sector)
        sigma = training_sigmas(len(x0), generator, CENTRE, SPREAD)
        noise = torch.randn(x0.shape, generator=generator)
        return denoising_loss(denoiser, x0, sigma, noise, self._context(Conditions(label, sector)))

    def _context(self, said: Conditions) -> Context:
        """State of every factor (which it is, label, sector) and the Gaussian law of the window given them."""
        n = len(said.label)
        parts = [torch.eye(self.shape_[1]).expand(n, -1, -1)]
        for code, classes in ((said.label, self.n_labels), (said.sector, len(self.sectors_))):
            hot = torch.nn.functional.one_hot(code + 1, classes + 1)[:, 1:].float()
            parts.append(hot[:, None].expand(-1, self.shape_[1], -1))
        return Context(
            state=torch.cat(parts, dim=2), prior=replace(self.prior_, mean=self.prior_.mean + self.means_.of(said))
        )

    # ---- editing
    def edit(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        strength: float | np.ndarray = 0.3,
        sector: np.ndarray | None = None,
        random_state: int | np.random.Generator | None = None,
        as_of: str | pd.Timestamp | None = None,
    ) -> np.ndarray:
        """Noise samples to a share T'/T of the schedule and denoise them, guided by label and sector.

        Parameters
        ----------
        X : ndarray, shape (sample, time, factor)
        y : ndarray, shape (sample,), optional
            Labels to be guided to; NaN (or None for all) where there is none.
        strength : float or ndarray (sample,)
            0 returns the sample to the bit, 1 forgets it. Samples of one strength are edited together.
        sector : ndarray of str, shape (sample,), optional
        random_state : int or Generator, optional
            Default: the constructor's. Same seed, same bits.
        as_of : date, optional
            When the edited samples are to be used: the last date that the predictor's training may know.

        Raises
        ------
        LookAheadError
            The augmenter knows more than was known at ``as_of``, or does not know how much it knows.
        """
        check_is_fitted(self, "denoiser_")
        self._check_knowledge(as_of)
        X, y = self._samples(X, np.full(len(X), np.nan) if y is None else y)
        if X.shape[1:] != self.shape_:
            raise DataError(f"windows are {X.shape[1:]} (time, factor), the augmenter was fitted on {self.shape_}")
        said = Conditions(self._label(y), self._sector(self._names(sector, len(X))))
        strengths = np.broadcast_to(np.asarray(strength, dtype=float), (len(X),))
        seed = self.random_state if random_state is None else random_state
        rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        out = X.copy()
        for level in np.unique(strengths[strengths != 0]):
            rows = np.flatnonzero(strengths == level)
            for index in np.array_split(rows, -(-len(rows) // CHUNK)):
                out[index] = self._edited(X[index], said.at(torch.from_numpy(index)), float(level), generator)
        return out

    def extend(
        self,
        X: np.ndarray,
        y: np.ndarray,
        strength: float | np.ndarray = 0.3,
        sector: np.ndarray | None = None,
        random_state: int | np.random.Generator | None = None,
        as_of: str | pd.Timestamp | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A training set twice as long: the samples as they are, then their edits, which keep the labels.

        Parameters are those of `edit`. Hand in training samples only: never what validates or tests a predictor.
        """
        edited = self.edit(X, y, strength, sector, random_state, as_of)
        return np.concatenate([np.asarray(X), edited]), np.concatenate([np.asarray(y), np.asarray(y)])

    def _edited(self, X: np.ndarray, said: Conditions, strength: float, generator: torch.Generator) -> np.ndarray:
        context = self._context(said)
        nothing = torch.full_like(said.label, UNSAID)
        denoiser = ClassifierFree(self.denoiser_, self.guidance, self._context(Conditions(nothing, nothing)))
        z = self._rows(X).unsqueeze(1)
        z = edit(denoiser, z, strength, context, sampler_named(self.sampler), self.steps, generator)
        return (z.reshape(len(X), *self.shape_).numpy() * self.scale_ + self.mean_).astype(X.dtype)

    def _check_knowledge(self, as_of: str | pd.Timestamp | None) -> None:
        if as_of is None:
            return
        if self.knowledge_until_ is None:
            raise LookAheadError(
                f"the augmenter was fitted without known_at and cannot vouch for {as_of}; fit it with the times at "
                "which its labels became known"
            )
        when = pd.Timestamp(as_of)
        if self.knowledge_until_ > when:
            raise LookAheadError(
                f"the augmenter has seen labels up to {self.knowledge_until_}, the predictor may know nothing after "
                f"{when}; fit the augmenter on samples whose labels were known by then"
            )

    # ---- reading samples
    @staticmethod
    def _samples(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X, y = np.asarray(X), np.asarray(y, dtype=float)
        X = X if X.dtype in (np.float32, np.float64) else X.astype(float)
        if X.ndim != 3 or y.shape != (len(X),):
            raise DataError(
                f"windows have shape {X.shape} and labels {y.shape}; expected (sample, time, factor) and (sample,)"
            )
        if not np.isfinite(X).all():
            raise DataError("factor windows hold NaN or infinite values; leave incomplete windows out")
        return X, y

    def _rows(self, X: np.ndarray) -> Tensor:
        z = ((X - self.mean_) / self.scale_).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(z.reshape(len(X), -1)))

    def _label(self, y: np.ndarray) -> Tensor:
        return torch.from_numpy(np.where(np.isnan(y), UNSAID, np.searchsorted(self.label_edges_, y, side="right")))

    @staticmethod
    def _names(sector: np.ndarray | None, n: int) -> np.ndarray:
        if sector is None:
            return np.full(n, "")
        names = np.array(["" if s is None or s != s else str(s) for s in sector])
        if len(names) != n:
            raise DataError(f"{len(names)} sectors for {n} samples: one a sample is needed")
        return names

    def _sector(self, names: np.ndarray) -> Tensor:
        codes = {name: number for number, name in enumerate(self.sectors_)}
        return torch.tensor([codes.get(name, UNSAID) for name in names], dtype=torch.int64)


def loss_guided(losses: np.ndarray, weak: float, strong: float, levels: int = 4) -> np.ndarray:
    """Strengths by a predictor's loss on its training samples: the easier a sample, the more it is edited.

    Samples that are already fitted well teach little as they are and are the first to be learnt by heart (Gao et al.
    2024, section on loss-guided noise). Ranks are cut into ``levels`` groups of equal size, spaced evenly from
    ``strong`` (smallest losses) to ``weak``.

    Parameters
    ----------
    losses : ndarray, shape (sample,)
    weak, strong : float
        Strengths of the hardest and the easiest group.
    levels : int

    Returns
    -------
    ndarray, shape (sample,)
    """
    if levels < 2:
        raise ConfigError(f"levels = {levels}: at least two groups are needed to tell easy from hard")
    losses = np.asarray(losses, dtype=float)
    if losses.ndim != 1 or not np.isfinite(losses).all():
        raise DataError("losses must be finite, one a sample")
    rank = np.argsort(np.argsort(losses, kind="stable"), kind="stable")
    return np.linspace(strong, weak, levels)[rank * levels // max(1, len(losses))]


def _class_means(z: Tensor, code: Tensor, seen: Tensor, held: Tensor, classes: int) -> tuple[float, Tensor]:
    """Class means of centred rows, shrunk to what held-out class means agree with, and the share that was kept."""
    table = torch.zeros(classes + 1, z.shape[1])
    cross, square = 0.0, 0.0
    for k in range(classes):
        mine = seen[code[seen] == k]
        if not len(mine):
            continue
        table[k] = z[mine].mean(dim=0)
        later = held[code[held] == k]
        if len(later):  # weighted by how often the class occurs, so that a rare one does not decide
            cross += len(later) * float(table[k] @ z[later].mean(dim=0))
            square += len(later) * float(table[k] @ table[k])
    share = float(np.clip(cross / square, 0.0, 1.0)) if square > 0 else 0.0
    return share, table * share
