"""From a prompt to portfolios.

A prompt becomes tokens; the tower says which securities the description makes likely; latent diffusion draws what the
description leaves open; the decoder turns each latent into valid weights over the universe at the date; limits are met
exactly. Sampling starts from noise. The one portfolio that is looked up is the last book of the manager a prompt names,
if it had been filed by the prompt's date: it is a condition like the words (`memory`), and can be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from torch import Tensor

from foliocast.core.errors import ConfigError, DataError, HistoryError, InfeasibleError
from foliocast.features.funds import (
    EPOCH,
    FIELDS,
    NUMBERS,
    SECTORS,
    Prompt,
    Vocabulary,
    read_date,
    tokens,
    tokens_of,
    unscaled,
)
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.funds.augment import Augmenter
from foliocast.models.funds.conditions import SHAPE, Keys, Towers
from foliocast.models.funds.constraints import TINY, Limits, Shape, enforce, shaped, support
from foliocast.models.funds.fitting import Expectation, FundData, fit_carry, fit_latent, fit_tower, fit_vae
from foliocast.models.funds.latent import Guided, LatentNetwork, sample
from foliocast.models.funds.memory import QUARTER, Carried, Carry, Earlier, Memory, described
from foliocast.models.funds.securities import Securities, positions
from foliocast.models.funds.vae import HoldingsVAE, random_codes, tilt

SMALLEST = 2e-4
"""Securities that never reach twenty times this are left out of a `Trajectory`."""


class Corpus(Protocol):
    """What a generator learns from: filings (with fields and tags), securities, weights (filing x security)."""

    filings: pd.DataFrame
    securities: pd.DataFrame
    weights: sparse.csr_matrix


@dataclass(frozen=True)
class Trajectory:
    """How portfolios came out of noise.

    Parameters
    ----------
    sigmas : ndarray, shape (step,)
        Noise levels, falling.
    weights : ndarray, shape (step, sample, security)
        What the denoiser believed at each level, decoded; rows sum to one.
    tickers : tuple of str
    """

    sigmas: np.ndarray
    weights: np.ndarray
    tickers: tuple[str, ...]

    def frame(self, sample: int = 0) -> pd.DataFrame:
        """One sample as a table (noise level x ticker)."""
        index = pd.Index(self.sigmas, name="noise")
        return pd.DataFrame(self.weights[:, sample], index=index, columns=list(self.tickers))


@dataclass(frozen=True)
class _Scene:
    """Everything a generation needs about the universe at the date."""

    securities: Securities
    columns: np.ndarray
    keys: Keys


@dataclass(frozen=True)
class _Law:
    """How to draw."""

    guidance: float
    diversity: float
    steps: int


@dataclass(frozen=True)
class FundRequest:
    """One portfolio asked for, with limits of its own; see `FundGenerator.generate` for their meaning.

    Parameters
    ----------
    prompt : str, mapping or Prompt
    date : date, optional
    max_weight : float, optional
    exclude : tuple of tickers
    universe : tuple of tickers, optional
    n_holdings : int, optional
    sector_caps : mapping sector -> float
    previous : bool
    """

    prompt: str | Mapping[str, object] | Prompt
    date: str | pd.Timestamp | None = None
    max_weight: float | None = None
    exclude: tuple[str, ...] = ()
    universe: tuple[str, ...] | None = None
    n_holdings: int | None = None
    sector_caps: Mapping[str, float] = field(default_factory=dict)
    previous: bool = True


@dataclass(frozen=True)
class _Book:
    """An earlier book: positions among the scene's securities, weights, age in years, tokens, what it is called."""

    at: np.ndarray
    weights: np.ndarray
    age: float
    words: np.ndarray
    numbers: np.ndarray
    told: dict[str, object]


@dataclass(frozen=True)
class _Drawn:
    """What a portfolio is made of: decoded weights, scaled shape, how likely each security is; which were held
    earlier (bool), and the share of the weight that carries over."""

    weights: np.ndarray
    shape: np.ndarray
    likely: np.ndarray
    before: np.ndarray
    kept: float


@dataclass(frozen=True)
class _Belief:
    """Decoded weights (sample, security) and scaled shapes (sample, 3) at a noise level."""

    sigma: float
    weights: np.ndarray
    shapes: np.ndarray


class FundGenerator(Saveable, BaseEstimator):
    """Generates fund portfolios from prompts.

    Parameters
    ----------
    latent, hidden : int
        Size of the latent, width of the denoiser.
    vae_epochs, tower_epochs, latent_epochs : int
        Zero leaves the autoencoder at its factors, the diffusion at a Gaussian.
    towers : int
        Networks that are averaged to say which securities a description makes likely.
    strength : float
        How much the latent decides in the decoder against what the description makes likely (see `vae.tilt`).
    random_state : int

    Attributes
    ----------
    knowledge_until_ : Timestamp
        Latest filing date that shaped the model.
    vocabulary_ : Vocabulary
    securities_ : Securities

    Examples
    --------
    >>> import foliocast as fc
    >>> books = fc.FundGenerator.load("default").generate("Buffett, Value, Large-Cap, Sep 2023", n=4)
    """

    def __init__(
        self,
        latent: int = 256,
        hidden: int = 512,
        vae_epochs: int = 3,
        tower_epochs: int = 16,
        towers: int = 4,
        latent_epochs: int = 30,
        strength: float = 30.0,
        random_state: int = 0,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.vae_epochs = vae_epochs
        self.tower_epochs = tower_epochs
        self.towers = towers
        self.latent_epochs = latent_epochs
        self.strength = strength
        self.random_state = random_state

    # ---- learning
    def fit(self, corpus: Corpus, report: Callable[[str, dict[str, float]], None] | None = None) -> Self:
        """Learn from a corpus of filings; ``report(part, row)`` is called after every epoch.

        Raises
        ------
        HistoryError
            Fewer than 20 filings.
        """
        filings = corpus.filings
        if len(filings) < 20:
            raise HistoryError(f"{len(filings)} filings found, 20 needed to learn from")
        say = report or (lambda part, row: None)
        held = np.asarray((corpus.weights > 0).sum(axis=0)).ravel() > 0
        self.securities_ = Securities.from_frame(corpus.securities[held])
        names = dict(zip(filings["manager"], filings["fund_name"]))
        self.vocabulary_ = Vocabulary.of(filings, {str(k): str(v) for k, v in names.items()})
        self.knowledge_until_ = pd.Timestamp(filings["known_at"].max())
        self.latest_ = pd.Timestamp(filings["as_of"].max())
        data = self._data(corpus, held)
        self.memory_ = data.memory
        seed = int(self.random_state)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # initial weights; restored on leaving
            self._build()
        fit_vae(self.vae_, data, self.vae_epochs, seed, say)
        with torch.no_grad():
            codes = self.vae_.codes(data.attributes)
        augment = Augmenter(data.weights, filings, corpus.securities[held], self.vocabulary_)
        for k, member in enumerate(self.tower_.each):
            fit_tower(member, data, codes, augment, self.tower_epochs, seed + 101 * k + 1, say)
        ahead = Expectation(self.vae_, self.tower_, self.carry_, data)
        self.scale_ = ahead.scale
        fit_carry(self.carry_, ahead, seed + 3, say)
        fit_latent(self.network_, ahead, self.latent_epochs, seed + 2, say)
        return self

    def _data(self, corpus: Corpus, held: np.ndarray) -> FundData:
        filings = corpus.filings
        words, numbers = tokens_of(filings, self.vocabulary_)
        universe = np.stack([self.securities_.at(d) for d in filings["as_of"]])
        weights = sparse.csr_matrix(corpus.weights[:, held])
        universe |= (weights > 0).toarray()
        counts = filings["fund"].map(filings["fund"].value_counts()).to_numpy(float)
        importance = 1.0 / np.sqrt(counts)
        return FundData(
            weights,
            torch.tensor(words),
            torch.tensor(numbers, dtype=torch.float32),
            torch.tensor(universe),
            torch.tensor(self.securities_.attributes()),
            torch.tensor(importance / importance.mean(), dtype=torch.float32),
            Memory.of(filings, weights, words, numbers),
        )

    def _build(self) -> None:
        sizes = [len(self.vocabulary_.words[f]) for f in FIELDS]
        self.vae_ = HoldingsVAE(self.securities_.tickers, self.latent).eval()
        self.tower_ = Towers(self.towers, len(self.securities_), sizes, self.latent).eval()
        self.network_ = LatentNetwork(self.latent + len(SHAPE), sizes, self.hidden).eval()
        self.carry_ = Carry()

    # ---- generating
    @torch.no_grad()
    def generate(
        self,
        prompt: str | Mapping[str, object] | Prompt,
        n: int = 8,
        random_state: int | np.random.Generator = 0,
        *,
        date: str | pd.Timestamp | None = None,
        max_weight: float | None = None,
        exclude: Sequence[str] = (),
        universe: Sequence[str] | pd.DataFrame | None = None,
        n_holdings: int | None = None,
        sector_caps: Mapping[str, float] | None = None,
        previous: bool | pd.Series | pd.DataFrame = True,
        guidance: float = 1.0,
        diversity: float = 0.5,
        steps: int = 16,
        return_trajectory: bool = False,
    ) -> Any:
        """Draw portfolios.

        Parameters
        ----------
        prompt : str, mapping or Prompt
            Words and ``key=value`` pairs, separated by commas: ``"Buffett, Value, Large-Cap, Sep 2023"``,
            ``"style=growth, n=20, technology=40%"``. What is not understood is in ``attrs["unknown"]``.
        n : int
            Number of portfolios.
        random_state : int or Generator
        date : date, optional
            Of the universe and the description; wins over the prompt. Default: the last the model knows.
        max_weight : float, optional
            Largest weight of a security.
        exclude : sequence of tickers
        universe : sequence of tickers, or DataFrame indexed by ticker, optional
            The only securities that may be held, as far as they existed at the date. A DataFrame with any of the
            columns ``sector, size, growth, country, first, last`` brings in securities the model has never seen.
        n_holdings : int, optional
            Exact number of securities (so does ``n=`` in the prompt).
        sector_caps : mapping sector -> float, optional
        previous : bool, Series or DataFrame
            An earlier book to start from: weights by ticker, of a quarter before unless ``attrs["date"]`` says when.
            A DataFrame has a column ``weight`` and may have those of ``universe``, for names the model does not know.
            True is the last book of the manager the prompt names, as far as the model has read it and it had been
            filed by the date; False is none.
        guidance : float
            1 follows the prompt as learnt; above 1 exaggerates it.
        diversity : float
            0 gives what the prompt makes likeliest, 1 draws from the learnt law.
        steps : int
            Denoising steps.
        return_trajectory : bool
            Also return the `Trajectory`.

        Returns
        -------
        DataFrame (sample x ticker), or (DataFrame, Trajectory)
            Non-negative, rows sum to one; columns by mean weight. ``attrs``: ``prompt``, ``unknown``, ``date``,
            ``knowledge_until``, ``previous`` (the earlier book: fund, date, share of the weight kept; or None).

        Raises
        ------
        ConfigError
            A key that does not exist, a date before the model's first filing, a bad option.
        DataError
            A ticker in ``universe`` that the model does not know.
        InfeasibleError
            The limits contradict each other.
        """
        if n < 1 or steps < 1 or not diversity >= 0 or not np.isfinite(guidance):
            raise ConfigError(f"n = {n}, steps = {steps}, diversity = {diversity}, guidance = {guidance}: expected "
                              "n and steps of at least 1, diversity of at least 0")  # fmt: skip
        said = self._read(prompt, date, n_holdings)
        limits = _limits(said, max_weight, sector_caps, n_holdings)
        past = self._remembered(said) if previous is True else None
        own = None if isinstance(previous, bool) else _table_of(previous)
        scene = self._scene(said, universe, past, own)
        past = past if own is None else self._handed(own, said, scene)
        barred = self._barred(scene, exclude, said)
        rng = random_state if isinstance(random_state, np.random.Generator) else np.random.default_rng(random_state)
        law = _Law(guidance, diversity, steps)
        believed, drawn = self._draw([said] * n, [past] * n, scene, barred[None], law, rng, return_trajectory)
        out = self._frame(np.stack([self._finish(d, scene, said, limits) for d in drawn]), scene, said)
        out.attrs["previous"] = _told(past, drawn[0])
        if not return_trajectory:
            return out
        weights = np.stack([belief.weights for belief in believed])
        held = weights.max(axis=(0, 1)) > 20 * SMALLEST
        path = weights[:, :, held] / weights[:, :, held].sum(axis=-1, keepdims=True)
        names = [scene.securities.tickers[c] for c in scene.columns[held]]
        return out, Trajectory(np.array([belief.sigma for belief in believed]), path, tuple(names))

    @torch.no_grad()
    def generate_many(
        self,
        requests: Sequence[FundRequest],
        random_state: int | np.random.Generator = 0,
        *,
        guidance: float = 1.0,
        diversity: float = 0.5,
        steps: int = 16,
        batch: int = 64,
        skip_infeasible: bool = False,
    ) -> list[pd.Series | None]:
        """One portfolio a request. Requests of one date and universe are drawn together: much faster than one by one.

        Returns
        -------
        list of Series, in the order of the requests
            Weights by ticker, largest first, as `generate` gives; ``attrs`` as there. With ``skip_infeasible`` None
            stands where the limits contradict each other, instead of an error.

        Raises
        ------
        ConfigError, DataError, InfeasibleError
            See `generate`.
        """
        rng = random_state if isinstance(random_state, np.random.Generator) else np.random.default_rng(random_state)
        law = _Law(guidance, diversity, steps)
        read = [self._read(r.prompt, r.date, r.n_holdings) for r in requests]
        pasts = [self._remembered(s) if r.previous else None for r, s in zip(requests, read)]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, (request, said) in enumerate(zip(requests, read)):
            place = "" if request.universe is not None else self._place(said, pasts[i])
            groups.setdefault((said.date, request.universe, place), []).append(i)
        out: list[pd.Series | None] = [None] * len(requests)
        for members in groups.values():
            scene = self._scene(read[members[0]], requests[members[0]].universe, pasts[members[0]])
            for start in range(0, len(members), batch):
                part = members[start : start + batch]
                barred = np.stack([self._barred(scene, requests[i].exclude, read[i]) for i in part])
                _, drawn = self._draw([read[i] for i in part], [pasts[i] for i in part], scene, barred, law, rng, False)
                for one, i in zip(drawn, part):
                    try:
                        out[i] = self._one(one, scene, read[i], requests[i], pasts[i])
                    except InfeasibleError:
                        if not skip_infeasible:
                            raise
        return out

    def _one(self, drawn: _Drawn, scene: _Scene, said: Prompt, request: FundRequest, past: _Book | None) -> pd.Series:
        limits = _limits(said, request.max_weight, request.sector_caps, request.n_holdings)
        frame = self._frame(self._finish(drawn, scene, said, limits)[None], scene, said)
        book = frame.iloc[0]
        book.attrs = frame.attrs | {"previous": _told(past, drawn)}
        return book

    def read(self, prompt: str | Mapping[str, object] | Prompt) -> Prompt:
        """What the model understands of a prompt (see `text.understand` for reading the rest by meaning)."""
        self._check_fitted()
        if isinstance(prompt, Prompt):
            return prompt
        return self.vocabulary_.parse(prompt)

    def reconstruct(
        self, weights: pd.DataFrame, date: str | pd.Timestamp, securities: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Portfolios (sample x ticker) through encoder and decoder, without noise, over the universe at the date.

        ``securities``: attributes of tickers the model has never seen.
        """
        self._check_fitted()
        table = securities if securities is not None else pd.DataFrame(index=pd.Index(weights.columns, dtype=str))
        known = self.securities_.joined(Securities.from_frame(table))
        at = positions(known.tickers, [str(t) for t in weights.columns])
        if (at < 0).any():
            raise DataError(f"no attributes of {weights.columns[int((at < 0).argmax())]}; add it to securities")
        inside = known.at(pd.Timestamp(date))
        inside[at] = True
        columns = np.flatnonzero(inside)
        scene = self._prepare(known, columns)
        dense = np.zeros((len(weights), len(known)), dtype=np.float32)
        dense[:, at] = weights.to_numpy()
        with torch.no_grad():
            z, _ = self.vae_.encode(torch.tensor(dense[:, columns]), scene.keys.codes, scene.keys.attributes)
            back = self.vae_.decode(z, scene.keys.codes, steps=100).numpy()
        names = [known.tickers[c] for c in columns]
        kept = back.max(axis=0) > 0
        out = pd.DataFrame(back[:, kept].astype(float), weights.index, [n for n, k in zip(names, kept) if k])
        return out.div(out.sum(axis=1), axis=0)

    # ---- the steps of a generation
    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise ConfigError('the fund generator is not fitted: FundGenerator.load("default"), or fit(corpus)')

    def _read(self, prompt: str | Mapping[str, object] | Prompt, date: object, n_holdings: int | None) -> Prompt:
        said = self.read(prompt)
        when = said.date
        if date is not None:
            when = date if isinstance(date, pd.Timestamp) else read_date(str(date), strict=True)
        when = self.latest_ if when is None else when
        numbers = said.numbers if n_holdings is None else said.numbers | {"n_holdings": float(n_holdings)}
        return Prompt(said.fields, numbers, when, said.unknown)

    def _remembered(self, said: Prompt) -> _Book | None:
        """The last book of the manager that is named, as far as it had been filed by the date."""
        self._check_fitted()
        assert said.date is not None
        memory, day = self.memory_, (said.date - EPOCH).days
        asked = tokens([said], self.vocabulary_)[0][0]
        row = memory.last(asked, day)
        if row is None:
            return None
        dates = {k: f"{EPOCH + pd.Timedelta(days=int(v)):%Y-%m-%d}" for k, v in
                 (("as_of", memory.as_of[row]), ("filed", memory.known[row]))}  # fmt: skip
        told: dict[str, object] = {"fund": memory.funds[memory.fund[row]], **dates}
        age = (day - int(memory.as_of[row])) / 365.25
        return _Book(*memory.book(row), age, memory.heard(row, asked), memory.numbers[row], told)

    def _handed(self, book: pd.DataFrame, said: Prompt, scene: _Scene) -> _Book:
        """A book the caller hands in as the earlier one."""
        assert said.date is not None
        at = positions(scene.securities.tickers, list(book.index))
        weights = book["weight"].to_numpy(float)
        weights = weights / weights.sum()
        date = read_date(str(book.attrs["date"]), strict=True) if "date" in book.attrs else None
        age = QUARTER if date is None else (said.date - date).days / 365.25
        if age < 0:
            raise ConfigError(
                f"the previous book is of {date:%Y-%m-%d}, after the date asked for, {said.date:%Y-%m-%d}"
            )
        words, numbers = described(weights, scene.securities, at, self.vocabulary_)
        told: dict[str, object] = {
            "fund": "handed in",
            "as_of": "" if date is None else str(date.date()),
        }
        return _Book(at, weights, age, words[0], numbers[0], told)

    def _place(self, said: Prompt, past: _Book | None) -> str:
        """Geography the prompt names, or that of the manager's earlier book."""
        named = said.fields.get("geography", "")
        index = 0 if named or past is None else int(past.words[FIELDS.index("geography")])
        return named if index == 0 else self.vocabulary_.words["geography"][index - 1]

    def _scene(
        self,
        said: Prompt,
        universe: Sequence[str] | pd.DataFrame | None,
        past: _Book | None = None,
        own: pd.DataFrame | None = None,
    ) -> _Scene:
        """The securities that may be held. ``own``: a book whose names may be held, too, be they known or not."""
        self._check_fitted()
        assert said.date is not None
        known = self.securities_
        if own is not None:
            known = known.joined(Securities.from_frame(own))
        if isinstance(universe, pd.DataFrame):
            known = known.joined(Securities.from_frame(universe))
        inside = known.at(said.date)
        if universe is not None:
            names = (
                list(universe.index.astype(str)) if isinstance(universe, pd.DataFrame) else [str(t) for t in universe]
            )
            at = positions(known.tickers, names)
            if (at < 0).any():
                raise DataError(
                    f"the model does not know {', '.join(n for n, a in zip(names, at) if a < 0)}; hand in universe as "
                    "a DataFrame with sector, size and growth of such securities"
                )
            chosen = np.zeros(len(known), dtype=bool)
            chosen[at] = True
            inside &= chosen
        else:
            there = _region(known, self._place(said, past))
            if own is not None:
                there[positions(known.tickers, list(own.index))] = True
            inside &= there
        columns = np.flatnonzero(inside)
        if not len(columns):
            raise ConfigError(_nothing(known, said))
        return self._prepare(known, columns)

    @staticmethod
    def _barred(scene: _Scene, exclude: Sequence[str], said: Prompt) -> np.ndarray:
        """Which securities of the scene may not be held: bool (security,)."""
        gone = np.zeros(len(scene.securities), dtype=bool)
        at = positions(scene.securities.tickers, [str(t) for t in exclude])
        gone[at[at >= 0]] = True
        barred = gone[scene.columns]
        if barred.all():
            raise ConfigError(_nothing(scene.securities, said))
        return barred

    def _prepare(self, known: Securities, columns: np.ndarray) -> _Scene:
        """Codes and keys of the securities in the universe; those never seen have no learnt part."""
        n = len(self.securities_)
        attributes = torch.tensor(known.attributes()[columns])
        old = torch.tensor(columns < n)
        at = torch.tensor(np.minimum(columns, n - 1))
        fixed = self.vae_.known[at]
        if (columns >= n).any():
            new = random_codes([known.tickers[c] for c in columns if c >= n], self.latent)
            fixed = fixed.clone()
            fixed[~old] = new
        codes = self.vae_.codes(attributes, fixed, self.vae_.learnt[at] * old[:, None])
        return _Scene(known, columns, self.tower_.keys(attributes, codes, at, old))

    def _draw(
        self,
        prompts: Sequence[Prompt],
        pasts: Sequence[_Book | None],
        scene: _Scene,
        barred: np.ndarray,
        law: _Law,
        rng: np.random.Generator,
        trace: bool,
    ) -> tuple[list[_Belief], list[_Drawn]]:
        """Decoded beliefs at every noise level (only the last without ``trace``), and the samples, one a prompt.

        ``barred``: bool (1 or prompt, security); one row stands for prompts that are all the same.
        """
        n, same = len(prompts), len(barred) == 1
        words, numbers = (torch.tensor(a) for a in tokens(prompts[:1] if same else prompts, self.vocabulary_))
        numbers, allowed = numbers.float(), torch.tensor(~barred)
        earlier = self._earlier(pasts[:1] if same else pasts, scene, allowed)
        carried = self._carried(words, numbers, scene, allowed, earlier, law.guidance)
        log_likely = carried.log_likely
        mean = torch.cat([log_likely.exp() @ scene.keys.codes, carried.shape], dim=1).expand(n, -1)
        wide = torch.cat([carried.spread[:, :1].expand(-1, self.latent), carried.spread[:, 1:]], dim=1)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        guided = Guided(self.network_, words.expand(n, -1), numbers.expand(n, -1), mean / self.scale_, law.guidance)
        noise = sample(guided, self.latent + len(SHAPE), law.steps, generator)
        levels = [*guided.believed, (0.0, noise)] if trace else [(0.0, noise)]
        out = []
        for sigma, x in levels:
            z = mean + law.diversity * self.scale_ * wide * x
            if law.diversity == 0:  # at its own latent the decoder returns what is likely (`vae.tilt`)
                weights = log_likely.exp().expand(n, -1)
            else:
                weights = tilt(z[:, : self.latent], scene.keys.codes, log_likely, self.strength)
            out.append(_Belief(sigma, weights.double().numpy(), z[:, self.latent :].double().numpy()))
        # What is only very unlikely may be held, if limits leave nothing else; what is barred may not.
        likely = np.where(barred, 0.0, np.maximum(log_likely.double().exp().numpy(), 1e-300))
        rows = np.zeros(n, dtype=int) if same else np.arange(n)
        before, kept, last = (earlier.weights > 0).numpy(), carried.kept.numpy(), out[-1]
        drawn = [
            _Drawn(last.weights[i], last.shapes[i], likely[r], before[r], float(kept[r])) for i, r in enumerate(rows)
        ]
        return out, drawn

    def _earlier(self, pasts: Sequence[_Book | None], scene: _Scene, allowed: Tensor) -> Earlier:
        """Earlier books over the columns of the scene, as far as what they held may be held."""
        place = np.full(len(scene.securities), -1)
        place[scene.columns] = np.arange(len(scene.columns))
        weights = torch.zeros(len(pasts), len(scene.columns))
        age = torch.full((len(pasts),), QUARTER)
        words = torch.zeros(len(pasts), len(FIELDS), dtype=torch.long)
        numbers = torch.full((len(pasts), len(NUMBERS)), torch.nan)
        for i, past in enumerate(pasts):
            if past is not None:
                at = place[past.at]
                weights[i, at[at >= 0]] = torch.tensor(past.weights[at >= 0], dtype=torch.float32)
                age[i] = past.age
                words[i] = torch.tensor(past.words.astype(np.int64))
                numbers[i] = torch.tensor(past.numbers, dtype=torch.float32)
        return Earlier(weights * allowed, age, words, numbers)

    def _carried(
        self, words: Tensor, numbers: Tensor, scene: _Scene, allowed: Tensor, earlier: Earlier, guidance: float
    ) -> Carried:
        """What the towers expect of a description, and what an earlier book adds."""
        nothing = torch.full_like(numbers, torch.nan)
        nothing[:, 0] = numbers[:, 0]  # the date is no matter of style

        def likely(words: Tensor, numbers: Tensor) -> Tensor:
            scores = self.tower_(words, numbers, scene.keys)
            if guidance != 1.0:
                free = self.tower_(torch.zeros_like(words), nothing, scene.keys)
                scores = free + guidance * (scores - free)
            return torch.log_softmax(scores.masked_fill(~allowed, -torch.inf), dim=1)

        # How many names there are says how weight is spread; words would add habits of funds of another size.
        counted = torch.isfinite(numbers[:, NUMBERS.index("n_holdings")])
        shape = self.tower_.expected_shape(words * ~counted[:, None], numbers)
        told = words.clone()
        told[earlier.there, 0] = 0  # his book says more of a manager than his name
        now = likely(told, numbers)
        then = likely(*earlier.then(told, numbers)) if earlier.there.any() else now
        return self.carry_(now, then, shape, earlier)

    def _finish(self, drawn: _Drawn, scene: _Scene, said: Prompt, limits: Limits) -> np.ndarray:
        """From decoded weights to a portfolio of the stated or generated shape that keeps the limits."""
        raw = drawn.weights
        sector = scene.securities.sector[scene.columns].astype(int)
        n, _, number = (unscaled(name, value) for name, value in zip(SHAPE, drawn.shape))
        if limits.n_holdings is not None:
            n = limits.n_holdings
        else:
            n = int(np.clip(round(n), max(2, np.ceil(1.0 / limits.max_weight - 1e-9)), len(raw)))
        # Two numbers drawn apart need not fit together: where none is stated, the effective number alone decides,
        # or the book before.
        top, stated = said.numbers.get("top_weight"), said.numbers.get("effective_n")
        free = top is None and stated is None and not drawn.before.any()
        asked = Shape(top, number if free else stated, self._stated(raw, sector, said))
        preferred = shaped(np.maximum(raw, TINY), sector, Shape(sectors=asked.sectors)) if asked.sectors else raw
        # What was held stays before what is new, as surely as weight is kept at all.
        held = support(preferred + drawn.kept * drawn.before, drawn.likely, sector, limits, n, asked)
        weights = shaped(np.maximum(raw[held], TINY), sector[held], asked)
        out = np.zeros(len(raw))
        out[held] = enforce(np.maximum(weights, TINY), sector[held], limits)
        return out

    @staticmethod
    def _stated(raw: np.ndarray, sector: np.ndarray, said: Prompt) -> dict[str, float]:
        """Sector weights the prompt gives. A sector *word* means by definition more than 35 % (`descriptive`); where
        the decoder proposes less, the sector gets the half that such funds have on average."""
        stated = {s: v for s, v in said.numbers.items() if s in SECTORS}
        word = said.fields.get("sector", "")
        if word and word not in stated:
            share = raw[sector == SECTORS.index(word)].sum() / max(raw[sector >= 0].sum(), TINY)
            if share < 0.35:
                stated[word] = max(0.0, min(0.5, 1.0 - sum(stated.values())))
        return stated

    def _frame(self, books: np.ndarray, scene: _Scene, said: Prompt) -> pd.DataFrame:
        names = [scene.securities.tickers[c] for c in scene.columns]
        frame = pd.DataFrame(books, columns=names).rename_axis("sample")
        order = np.argsort(-books.mean(axis=0), kind="stable")
        frame = frame.iloc[:, [i for i in order if books[:, i].any()]]
        frame.attrs = {
            "prompt": {**said.fields, **said.numbers},
            "unknown": list(said.unknown),
            "date": str(said.date.date()) if said.date is not None else "",
            "knowledge_until": str(self.knowledge_until_.date()),
        }
        return frame

    # ---- keeping
    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A saved generator; ``"default"`` is the packaged one."""
        if str(path) == "default":
            with resources.as_file(resources.files("foliocast.models.funds") / "weights" / "default") as folder:
                return super().load(folder)
        return super().load(path)

    def to_checkpoint(self) -> tuple[dict[str, Tensor], ModelCard]:
        self._check_fitted()
        parts = {"vae": self.vae_, "tower": self.tower_, "network": self.network_, "carry": self.carry_}
        tensors = {f"{p}/{k}": v.half() for p, module in parts.items() for k, v in module.state_dict().items()}
        tensors |= {f"memory/{k}": v for k, v in self.memory_.tensors().items()}
        s = self.securities_
        for name in ("sector", "size", "growth", "first", "last"):
            tensors[f"securities/{name}"] = torch.tensor(getattr(s, name))
        countries = sorted(set(s.country))
        tensors["securities/country"] = torch.tensor([countries.index(c) for c in s.country], dtype=torch.int16)
        state = {
            "words": {k: list(v) for k, v in self.vocabulary_.words.items()},
            "manager_aliases": self.vocabulary_.manager_aliases,
            "countries": countries,
            "scale": self.scale_.tolist(),
            "latest": self.latest_.isoformat(),
            "funds": list(self.memory_.funds),
        }
        card = ModelCard(
            kind_of(self),
            params=self.get_params(),
            state=state,
            features=FIELDS,
            assets=s.tickers,
            knowledge_until=self.knowledge_until_.isoformat(),
        )
        return tensors, card

    @classmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor], card: ModelCard) -> Self:
        self = cls(**card.params)
        state = card.state
        arrays = {k.split("/")[1]: v.numpy() for k, v in tensors.items() if k.startswith("securities/")}
        country = tuple(state["countries"][i] for i in arrays.pop("country"))
        self.securities_ = Securities(tickers=card.assets, country=country, **arrays)
        self.vocabulary_ = Vocabulary({k: tuple(v) for k, v in state["words"].items()}, dict(state["manager_aliases"]))
        self.knowledge_until_ = pd.Timestamp(card.knowledge_until)
        self.latest_, self.scale_ = pd.Timestamp(state["latest"]), torch.tensor(state["scale"])
        with torch.random.fork_rng():
            self._build()
        past = {k.split("/")[1]: v for k, v in tensors.items() if k.startswith("memory/")}
        self.memory_ = Memory.from_tensors(state["funds"], past, len(card.assets))
        parts = {"vae": self.vae_, "tower": self.tower_, "network": self.network_, "carry": self.carry_}
        for name, module in parts.items():
            part = {k[len(name) + 1 :]: v.float() for k, v in tensors.items() if k.startswith(f"{name}/")}
            module.load_state_dict(part)
        return self


def _table_of(book: pd.Series | pd.DataFrame) -> pd.DataFrame:
    """A book that is handed in, as a table by ticker with a column ``weight``."""
    table = book.to_frame("weight") if isinstance(book, pd.Series) else book
    table = table.set_axis(table.index.astype(str))
    if "weight" not in table or not (table["weight"] >= 0).all() or not table["weight"].sum() > 0:
        raise DataError("the previous book needs a weight a ticker, none negative or missing, and not all zero")
    table.attrs = book.attrs
    return table


def _told(past: _Book | None, drawn: _Drawn) -> dict[str, object] | None:
    return None if past is None else {**past.told, "kept": round(drawn.kept, 3)}


def _limits(
    said: Prompt, max_weight: float | None, sector_caps: Mapping[str, float] | None, n_holdings: int | None
) -> Limits:
    wanted = said.numbers.get("n_holdings") if n_holdings is None else n_holdings
    cap = 1.0 if max_weight is None else max_weight
    return Limits(cap, dict(sector_caps or {}), None if wanted is None else round(wanted))


def _nothing(known: Securities, said: Prompt) -> str:
    begin = pd.Timestamp("2013-01-01") + pd.Timedelta(days=int(known.first.min()))
    return (
        f"no security may be held at {said.date:%Y-%m-%d}: the model knows filings from {begin:%Y-%m-%d} on, and the "
        "universe and exclusions leave nothing"
    )


def _region(known: Securities, geography: str) -> np.ndarray:
    """US listings, unless the prompt names a country that has listings of its own, or the world."""
    country = np.array(known.country)
    if geography in ("global", "international"):
        return np.ones(len(country), dtype=bool)
    if geography and geography != "us" and (country == geography).any():
        return country == geography
    return country == "us"
