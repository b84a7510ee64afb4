"""From a prompt to portfolios.

A prompt becomes tokens; the tower says which securities the description makes likely; latent diffusion draws what the
description leaves open; the decoder turns each latent into valid weights over the universe at the date; limits are met
exactly. Sampling starts from noise. The one portfolio that is looked up is the last book of the manager a prompt names,
if it had been filed by the prompt's date: it is a condition like the words (`memory`), and can be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    FIELDS,
    NUMBERS,
    Prompt,
    Vocabulary,
    read_date,
    tokens,
    tokens_of,
)
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.funds.augment import Augmenter
from foliocast.models.funds.books import Book, handed_in, over_columns, remembered, table_of
from foliocast.models.funds.conditions import SHAPE, Towers
from foliocast.models.funds.finishing import Drawn, finish
from foliocast.models.funds.fitting import Expectation, FundData, fit_carry, fit_latent, fit_tower, fit_vae
from foliocast.models.funds.latent import Guided, LatentNetwork, sample
from foliocast.models.funds.memory import Carried, Carry, Earlier, Memory
from foliocast.models.funds.requests import FundRequest, Law, Trajectory, limits_of
from foliocast.models.funds.scenes import Scene, barred_from, chosen, listed_in, nothing_left
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
        limits = limits_of(said, max_weight, sector_caps, n_holdings)
        past = self._past(said) if previous is True else None
        own = None if isinstance(previous, bool) else table_of(previous)
        scene = self._scene(said, universe, past, own)
        past = past if own is None else handed_in(own, said, scene, self.vocabulary_)
        barred = barred_from(scene, exclude, said)
        rng = random_state if isinstance(random_state, np.random.Generator) else np.random.default_rng(random_state)
        law = Law(guidance, diversity, steps)
        believed, drawn = self._draw([said] * n, [past] * n, scene, barred[None], law, rng, return_trajectory)
        out = self._frame(np.stack([finish(d, scene, said, limits) for d in drawn]), scene, said)
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
        law = Law(guidance, diversity, steps)
        read = [self._read(r.prompt, r.date, r.n_holdings) for r in requests]
        pasts = [self._past(s) if r.previous else None for r, s in zip(requests, read)]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, (request, said) in enumerate(zip(requests, read)):
            place = "" if request.universe is not None else self._place(said, pasts[i])
            groups.setdefault((said.date, request.universe, place), []).append(i)
        out: list[pd.Series | None] = [None] * len(requests)
        for members in groups.values():
            scene = self._scene(read[members[0]], requests[members[0]].universe, pasts[members[0]])
            for start in range(0, len(members), batch):
                part = members[start : start + batch]
                barred = np.stack([barred_from(scene, requests[i].exclude, read[i]) for i in part])
                _, drawn = self._draw([read[i] for i in part], [pasts[i] for i in part], scene, barred, law, rng, False)
                for one, i in zip(drawn, part):
                    try:
                        out[i] = self._one(one, scene, read[i], requests[i], pasts[i])
                    except InfeasibleError:
                        if not skip_infeasible:
                            raise
        return out

    def _one(self, drawn: Drawn, scene: Scene, said: Prompt, request: FundRequest, past: Book | None) -> pd.Series:
        limits = limits_of(said, request.max_weight, request.sector_caps, request.n_holdings)
        frame = self._frame(finish(drawn, scene, said, limits)[None], scene, said)
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

    def _past(self, said: Prompt) -> Book | None:
        self._check_fitted()
        return remembered(self.memory_, self.vocabulary_, said)

    def _place(self, said: Prompt, past: Book | None) -> str:
        """Geography the prompt names, or that of the manager's earlier book."""
        named = said.fields.get("geography", "")
        index = 0 if named or past is None else int(past.words[FIELDS.index("geography")])
        return named if index == 0 else self.vocabulary_.words["geography"][index - 1]

    def _scene(
        self,
        said: Prompt,
        universe: Sequence[str] | pd.DataFrame | None,
        past: Book | None = None,
        own: pd.DataFrame | None = None,
    ) -> Scene:
        """The securities that may be held. ``own``: a book whose names may be held, too, be they known or not."""
        self._check_fitted()
        assert said.date is not None
        known = self.securities_
        if own is not None:
            known = known.joined(Securities.from_frame(own))
        if isinstance(universe, pd.DataFrame):
            known = known.joined(Securities.from_frame(universe))
        if universe is not None:
            there = chosen(known, universe)
        else:
            there = listed_in(known, self._place(said, past))
            if own is not None:
                there[positions(known.tickers, list(own.index))] = True
        columns = np.flatnonzero(known.at(said.date) & there)
        if not len(columns):
            raise ConfigError(nothing_left(known, said))
        return self._prepare(known, columns)

    def _prepare(self, known: Securities, columns: np.ndarray) -> Scene:
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
        return Scene(known, columns, self.tower_.keys(attributes, codes, at, old))

    def _draw(
        self,
        prompts: Sequence[Prompt],
        pasts: Sequence[Book | None],
        scene: Scene,
        barred: np.ndarray,
        law: Law,
        rng: np.random.Generator,
        trace: bool,
    ) -> tuple[list[_Belief], list[Drawn]]:
        """Decoded beliefs at every noise level (only the last without ``trace``), and the samples, one a prompt.

        ``barred``: bool (1 or prompt, security); one row stands for prompts that are all the same.
        """
        n, same = len(prompts), len(barred) == 1
        words, numbers = (torch.tensor(a) for a in tokens(prompts[:1] if same else prompts, self.vocabulary_))
        numbers, allowed = numbers.float(), torch.tensor(~barred)
        earlier = over_columns(pasts[:1] if same else pasts, scene, allowed)
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
            Drawn(last.weights[i], last.shapes[i], likely[r], before[r], float(kept[r])) for i, r in enumerate(rows)
        ]
        return out, drawn

    def _carried(
        self, words: Tensor, numbers: Tensor, scene: Scene, allowed: Tensor, earlier: Earlier, guidance: float
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

    def _frame(self, books: np.ndarray, scene: Scene, said: Prompt) -> pd.DataFrame:
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


def _told(past: Book | None, drawn: Drawn) -> dict[str, object] | None:
    return None if past is None else {**past.told, "kept": round(drawn.kept, 3)}
