"""The fund models: valid weights whatever goes in, exact limits, dependence on every input, nothing copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone

from foliocast.core.errors import ConfigError, DataError, InfeasibleError
from foliocast.features.funds import FIELDS, NUMBERS, Vocabulary, measure, scaled, tokens_of
from foliocast.models.funds.augment import Augmenter
from foliocast.models.funds.conditions import SHAPE, Keys, Towers
from foliocast.models.funds.constraints import Limits, Shape, enforce, fill, shaped, support
from foliocast.models.funds.generator import FundGenerator
from foliocast.models.funds.latent import LatentNetwork, denoise, latent_loss
from foliocast.models.funds.requests import FundRequest
from foliocast.models.funds.securities import ATTRIBUTES
from foliocast.models.funds.vae import HoldingsVAE, random_codes, sparsemax, tilt, whitener
from unit.funds.fund_market import make_corpus


@pytest.fixture(scope="module")
def generator() -> FundGenerator:
    return FundGenerator(
        latent=32, hidden=64, vae_epochs=2, tower_epochs=40, towers=2, latent_epochs=15, random_state=0
    ).fit(make_corpus())


# ---- pieces


def test_sparsemax_is_the_projection_onto_the_simplex() -> None:
    assert sparsemax(torch.tensor([[0.2, 0.3, 0.5]]))[0].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert sparsemax(torch.tensor([[3.0, 0.0, 0.0]]))[0].tolist() == [1.0, 0.0, 0.0]
    # min |w - v|^2 on the simplex for v = (1, 0.8, -1): threshold 0.4.
    assert sparsemax(torch.tensor([[1.0, 0.8, -1.0]]))[0].tolist() == pytest.approx([0.6, 0.4, 0.0])
    assert sparsemax(torch.tensor([[-torch.inf, 0.0]]))[0].tolist() == [0.0, 1.0]


def test_a_sparse_portfolio_is_recovered_even_of_securities_never_seen() -> None:
    names = [f"N{i}" for i in range(800)]
    vae = HoldingsVAE(names[:10], latent=128, steps=100).eval()
    codes = random_codes(names, 128)
    truth = torch.zeros(1, 800)
    truth[0, [3, 100, 400, 700, 799]] = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    with torch.no_grad():
        back = vae.decode(truth @ codes, codes)
    assert float(torch.minimum(back, truth).sum()) > 0.99
    assert float(back.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_cost_keeps_securities_out() -> None:
    codes = random_codes([f"N{i}" for i in range(50)], 16)
    vae = HoldingsVAE(["a"], latent=16).eval()
    cost = torch.zeros(1, 50)
    cost[0, 7] = torch.inf
    with torch.no_grad():
        assert float(vae.decode(codes[7:8], codes)[0, 7]) > 0.9
        assert float(vae.decode(codes[7:8], codes, cost)[0, 7]) == 0.0


def test_tilt_returns_the_prior_at_its_own_latent_and_meets_the_optimality_condition() -> None:
    torch.manual_seed(0)
    codes = random_codes([f"N{i}" for i in range(40)], 8).double()
    prior = torch.softmax(torch.randn(1, 40).double(), dim=1)
    with torch.no_grad():
        same = tilt(prior @ codes, codes, prior.log(), 20.0, steps=400)
        assert torch.allclose(same, prior, atol=1e-8)
        z = codes[3:4] * 0.5
        w = tilt(z, codes, prior.log(), 20.0, steps=4000)
        assert float(w[0, 3]) > float(prior[0, 3])

        def cost(weights: torch.Tensor) -> float:
            turn = whitener(codes)
            gap = ((z - weights @ codes) @ turn).pow(2).sum()
            return float((weights * (weights / prior).log()).sum() + 20.0 * gap / 2)

        best = cost(w)
        for _ in range(50):  # no feasible direction is better
            other = torch.softmax(w.log() + 0.05 * torch.randn(1, 40).double(), dim=1)
            assert cost(other) > best - 1e-9


def small_network() -> tuple[LatentNetwork, list[torch.Tensor]]:
    torch.manual_seed(0)
    network = LatentNetwork(16, [3] * len(FIELDS), hidden=64, width=16, blocks=2).eval()
    torch.nn.init.normal_(network.leave.weight, std=0.3)
    for block in network.blocks:
        torch.nn.init.normal_(block.modulate.weight, std=0.3)
    words = torch.ones(1, len(FIELDS), dtype=torch.long)
    return network, [torch.randn(1, 16), torch.tensor([0.7]), words, torch.zeros(1, len(NUMBERS)), torch.randn(1, 16)]


def test_the_denoiser_depends_on_noise_level_mean_and_every_field() -> None:
    network, (x, sigma, words, numbers, mean) = small_network()
    base = denoise(network, x, sigma, words, numbers, mean)
    assert not torch.allclose(denoise(network, x + 0.1, sigma, words, numbers, mean) - base, torch.zeros(16), atol=1e-3)
    f = lambda s: network(x, torch.tensor([s]), words, numbers, mean)  # noqa: E731
    assert (f(0.1) - f(3.0)).abs().max() > 1e-3
    assert (denoise(network, x, sigma, words, numbers, mean + 1) - base).abs().max() > 1e-4
    for j in range(len(FIELDS)):
        changed = words.clone()
        changed[0, j] = 2
        assert (denoise(network, x, sigma, changed, numbers, mean) - base).abs().max() > 1e-4, FIELDS[j]
    for j in range(len(NUMBERS)):
        for value in (1.0, torch.nan):
            changed = numbers.clone()
            changed[0, j] = value
            assert (denoise(network, x, sigma, words, changed, mean) - base).abs().max() > 1e-5, NUMBERS[j]


def test_a_network_of_zeros_is_the_denoiser_of_unit_gaussians() -> None:
    network = LatentNetwork(8, [2] * len(FIELDS), hidden=64, width=16, blocks=1).eval()
    x, words = torch.randn(4, 8), torch.zeros(4, len(FIELDS), dtype=torch.long)
    nothing = torch.full((4, len(NUMBERS)), torch.nan)
    for sigma in (0.3, 2.0):
        got = denoise(network, x, sigma, words, nothing, torch.zeros(4, 8))
        assert torch.allclose(got, x / (1 + sigma**2), atol=1e-6)
    with torch.no_grad():
        loss = latent_loss(
        network, torch.randn(4000, 8), torch.ones(4000), torch.randn(4000, 8), words[:1].expand(4000, -1),
        nothing[:1].expand(4000, -1), torch.zeros(4000, 8), torch.ones(4000), torch.ones(8),
    )  # fmt: skip
    assert float(loss) == pytest.approx(1.0, abs=0.05)  # the target has unit variance at every level


# ---- limits


def test_fill_keeps_total_and_cap() -> None:
    out = fill(np.array([0.7, 0.2, 0.1]), 1.0, 0.4)
    assert out.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert fill(np.array([5.0, 1.0]), 1.0, 0.5).tolist() == pytest.approx([0.5, 0.5])


def test_limits_hold_exactly_and_contradictions_are_named() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        raw = np.where(rng.random(40) < 0.3, rng.random(40), 0.0)
        likely, sector = rng.random(40), rng.integers(-1, 11, 40)
        limits = Limits(
            max_weight=float(rng.uniform(0.1, 0.6)), sector_caps={"technology": 0.25, "energy": 0.0}, n_holdings=12
        )
        held = support(raw, likely, sector, limits, 12)
        w = enforce(np.maximum(raw[held], 1e-6), sector[held], limits)
        assert len(set(held)) == 12
        assert w.sum() == pytest.approx(1.0, abs=1e-12)
        assert w.max() <= limits.max_weight
        assert w[sector[held] == 9].sum() <= 0.25
        assert not (sector[held] == 3).any()
    with pytest.raises(InfeasibleError, match=r"add up to 0\.5"):
        Limits(max_weight=0.05, n_holdings=10)
    with pytest.raises(InfeasibleError, match="may be held"):
        support(np.ones(5), np.ones(5), np.full(5, 9), Limits(1.0, {"tech": 0.3}), 5)
    with pytest.raises(ConfigError, match="max_weight"):
        Limits(max_weight=0.0)
    with pytest.raises(ConfigError, match="sectors are"):
        Limits(sector_caps={"cheese": 0.1})


def test_stated_top_and_sector_weights_are_met() -> None:
    weights, sector = np.array([0.4, 0.3, 0.2, 0.1]), np.array([9, 9, 3, 3])
    out = shaped(weights, sector, Shape(0.5, None, {"technology": 0.7, "energy": 0.3}), rounds=60)
    assert out.max() == pytest.approx(0.5, abs=1e-6)
    assert out[:2].sum() == pytest.approx(0.7, abs=0.02)
    assert shaped(weights, sector, Shape(0.1)).tolist() == [0.25] * 4


def test_top_weight_effective_number_and_sectors_are_met_together() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        sector = np.repeat([9, 3, 4, -1, 0], 6)
        shape = Shape(0.15, 14.0, {"technology": 0.3, "energy": 0.1})
        out = shaped(rng.dirichlet(np.full(30, 0.5)), sector, shape)
        assert out.sum() == pytest.approx(1.0)
        assert out.max() == pytest.approx(0.15, abs=1e-6)
        assert 1.0 / (out**2).sum() == pytest.approx(14.0, rel=1e-4)
        assert out[sector == 9].sum() / out[sector >= 0].sum() == pytest.approx(0.3, abs=5e-3)
    alone = shaped(np.array([0.4, 0.3, 0.2, 0.1]), np.full(4, -1), Shape(effective_n=2.0))
    assert 1.0 / (alone**2).sum() == pytest.approx(2.0, rel=1e-5)
    assert (np.diff(alone) < 0).all()


def test_a_stated_sector_gets_the_names_it_needs() -> None:
    raw = np.linspace(1.0, 0.1, 20)
    sector = np.array([4] * 15 + [9] * 5)
    held = support(raw, raw, sector, Limits(n_holdings=8), 8, Shape(0.2, None, {"technology": 0.6}))
    assert (sector[held] == 9).sum() == 3


# ---- synthetic funds


def augmenter(share: float) -> tuple[Augmenter, pd.DataFrame, Vocabulary]:
    corpus = make_corpus()
    vocabulary = Vocabulary.of(corpus.filings)
    return Augmenter(corpus.weights, corpus.filings, corpus.securities, vocabulary, share), corpus.filings, vocabulary


def test_synthetic_funds_are_portfolios_whose_tags_are_their_own() -> None:
    augment, filings, vocabulary = augmenter(1.0)
    words, numbers = (torch.tensor(a) for a in tokens_of(filings, vocabulary))
    index = torch.arange(len(filings))
    weights, w, x, real = augment(index, words, numbers.float(), seed=4)
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(filings)), atol=1e-5)
    made = ~real
    assert made.float().mean() > 0.5
    assert (w[made, FIELDS.index("manager")] == 0).all()
    count = torch.tensor(scaled("n_holdings", (weights > 0).sum(dim=1).double().numpy())).float()
    assert torch.allclose(x[made, NUMBERS.index("n_holdings")], count[made])
    tags = measure(sparse.csr_matrix(weights.double().numpy()), augment.securities)
    tech = torch.tensor(scaled("technology", tags["technology"].to_numpy())).float()
    assert torch.allclose(x[made, NUMBERS.index("technology")], tech[made], atol=1e-4, equal_nan=True)
    original = torch.tensor(augment.weights.toarray()).float()
    assert torch.allclose(weights[real], original[real])
    assert not torch.allclose(weights[made], original[made], atol=0.05)
    again = augment(index, words, numbers.float(), seed=4)[0]
    assert torch.equal(weights, again)


def test_no_share_no_synthetic_fund() -> None:
    augment, filings, vocabulary = augmenter(0.0)
    words, numbers = (torch.tensor(a) for a in tokens_of(filings, vocabulary))
    weights, w, _, real = augment(torch.arange(5), words[:5], numbers[:5].float(), seed=1)
    assert real.all()
    assert torch.equal(w, words[:5])
    assert torch.allclose(weights, torch.tensor(augment.weights[:5].toarray()).float())


def test_towers_are_averaged() -> None:
    torch.manual_seed(0)
    towers = Towers(3, 10, [3] * len(FIELDS), latent=16).eval()
    words = torch.ones(2, len(FIELDS), dtype=torch.long)
    numbers = torch.zeros(2, len(NUMBERS))
    keys = towers.keys(torch.randn(10, ATTRIBUTES), torch.randn(10, 16))
    single = [m(words, numbers, Keys(keys.attributes, keys.codes, m.learnt, m.popularity)) for m in towers.members]
    assert torch.allclose(towers(words, numbers, keys), torch.stack(single).mean(dim=0), atol=1e-6)
    assert towers.expected_shape(words, numbers).shape == (2, len(SHAPE))


# ---- the generator


def test_portfolios_are_valid_and_follow_the_prompt(generator: FundGenerator) -> None:
    for style, letter in (("growth", "G"), ("value", "V")):
        books = generator.generate(f"{style}, Sep 2020", n=6, random_state=1)
        w = books.to_numpy()
        assert books.shape[0] == 6
        assert (w >= 0).all()
        assert np.abs(w.sum(axis=1) - 1).max() < 1e-9
        right = [c for c in books.columns if c.startswith(letter)]
        assert books[right].sum(axis=1).mean() > 0.75
    assert books.attrs["knowledge_until"] == "2021-02-09"


def test_samples_differ_and_seeds_decide(generator: FundGenerator) -> None:
    a = generator.generate("growth", n=4, random_state=1)
    b = generator.generate("growth", n=4, random_state=1)
    c = generator.generate("growth", n=4, random_state=2)
    pd.testing.assert_frame_equal(a, b)
    assert not a.equals(c)
    w = a.to_numpy()
    overlaps = [np.minimum(w[i], w[j]).sum() for i in range(4) for j in range(i)]
    assert max(overlaps) < 0.99
    calm = generator.generate("growth", n=4, random_state=1, diversity=0.0).to_numpy()
    assert np.allclose(calm, calm[0])


def test_options_are_kept(generator: FundGenerator) -> None:
    books = generator.generate(
        "growth, Sep 2020", n=5, max_weight=0.15, exclude=["G00", "G01"], n_holdings=12, sector_caps={"technology": 0.4}
    )
    assert books.to_numpy().max() <= 0.15
    assert not {"G00", "G01"} & set(books.columns)
    assert ((books > 0).sum(axis=1) == 12).all()
    tech = [c for c in books.columns if c.startswith("G")]
    assert books[tech].sum(axis=1).max() <= 0.4
    inside = generator.generate("value", n=3, universe=["V01", "V02", "V03", "G07"])
    assert set(inside.columns) <= {"V01", "V02", "V03", "G07"}
    with pytest.raises(DataError, match="does not know ZZZ"):
        generator.generate("value", universe=["ZZZ"])
    with pytest.raises(ConfigError, match="no security may be held"):
        generator.generate("value", date="2015-01-01")
    with pytest.raises(ConfigError, match="n = 0"):
        generator.generate("value", n=0)


def test_requests_are_answered_together_each_with_its_own_limits(generator: FundGenerator) -> None:
    requests = [
        FundRequest("growth, n=8", "2020-09-30", max_weight=0.2),
        FundRequest("value, n=20", "2020-12-31", exclude=("V00", "V01")),
        FundRequest("growth", "2020-09-30", n_holdings=5, sector_caps={"technology": 0.5}),
        FundRequest("value", "2020-09-30", universe=("V02", "V03", "V04")),
    ]
    books = generator.generate_many(requests, random_state=3)
    assert [len(b) for b in books[:3]] == [8, 20, 5]
    for book in books:
        assert book.sum() == pytest.approx(1.0, abs=1e-12)
    assert books[0].max() <= 0.2 + 1e-12
    assert not {"V00", "V01"} & set(books[1].index)
    assert books[2][[t for t in books[2].index if t.startswith("G")]].sum() <= 0.5 + 1e-12
    assert set(books[3].index) <= {"V02", "V03", "V04"}
    assert books[1].attrs["date"] == "2020-12-31"
    impossible = FundRequest("growth, n=4", max_weight=0.2)
    with pytest.raises(InfeasibleError):
        generator.generate_many([impossible])
    skipped = generator.generate_many([impossible, requests[0]], skip_infeasible=True)
    assert skipped[0] is None
    assert len(skipped[1]) == 8


def test_a_stated_effective_number_is_met(generator: FundGenerator) -> None:
    books = generator.generate("growth, n=15, top=20%, effective_n=9", n=3)
    assert (1.0 / (books.to_numpy() ** 2).sum(axis=1)).tolist() == pytest.approx([9.0] * 3, rel=1e-3)
    assert books.to_numpy().max(axis=1).tolist() == pytest.approx([0.2] * 3, abs=1e-5)


def test_new_securities_can_be_held(generator: FundGenerator) -> None:
    new = pd.DataFrame({"sector": ["technology"] * 6, "size": 1.0, "growth": 1.0}, index=[f"NEW{i}" for i in range(6)])
    books = generator.generate("growth, n=4", n=3, universe=new)
    assert set(books.columns) <= set(new.index)
    late = new.assign(first=pd.Timestamp("2030-01-01"))
    with pytest.raises(ConfigError, match="no security may be held"):
        generator.generate("growth", universe=late, date="2020-09-30")


def test_trajectory_ends_in_valid_weights(generator: FundGenerator) -> None:
    books, path = generator.generate("growth", n=2, steps=6, return_trajectory=True)
    assert path.weights.shape[:2] == (7, 2)
    assert (np.diff(path.sigmas) < 0).all()
    assert np.allclose(path.weights.sum(axis=-1), 1.0)
    assert path.frame(1).shape == (7, len(path.tickers))
    assert len(books) == 2


def test_unknown_words_are_reported(generator: FundGenerator) -> None:
    books = generator.generate("growth, blue cheese", n=1)
    assert books.attrs["unknown"] == ["blue cheese"]


def test_saved_and_loaded_it_is_the_same(generator: FundGenerator, tmp_path: Path) -> None:
    card = generator.save(tmp_path / "model")
    again = FundGenerator.load(tmp_path / "model")
    assert card.knowledge_until.startswith("2021-02-09")
    a, b = (g.generate("growth, Sep 2020", n=3, random_state=5) for g in (generator, again))
    both = a.columns.union(b.columns)
    a, b = (f.reindex(columns=both, fill_value=0.0).to_numpy() for f in (a, b))
    assert np.minimum(a, b).sum(axis=1).min() > 0.95  # weights are stored in half precision
    assert clone(generator).get_params() == generator.get_params()
    with pytest.raises(ConfigError, match="not fitted"):
        clone(generator).generate("growth")


def test_reconstruction(generator: FundGenerator) -> None:
    corpus = make_corpus()
    held = corpus.holdings(3)
    frame = pd.DataFrame([held.to_numpy()], columns=held.index)
    back = generator.reconstruct(frame, corpus.filings["as_of"].iloc[3])
    both = back.columns.union(frame.columns)
    overlap = np.minimum(*(f.reindex(columns=both, fill_value=0.0).to_numpy() for f in (frame, back))).sum()
    assert overlap > 0.95


def test_attributes_have_the_width_the_models_expect(generator: FundGenerator) -> None:
    assert generator.securities_.attributes().shape == (len(generator.securities_), ATTRIBUTES)
