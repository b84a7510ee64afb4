"""Funds in words and numbers: tags measured from holdings, descriptive fields, prompts.

A fund is described by *fields* (words: manager, legal type, strategy, style, cap, theme, sector, geography) and by
*numbers* (date, number of holdings, top weight, tilts, sector weights). Each may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from foliocast.core.errors import ConfigError

SECTORS = (
    "communication",
    "consumer-discretionary",
    "consumer-staples",
    "energy",
    "financials",
    "health-care",
    "industrials",
    "materials",
    "real-estate",
    "technology",
    "utilities",
)
FIELDS = ("manager", "legal_type", "strategy", "style", "cap", "theme", "sector", "geography")
MEASURES = ("n_holdings", "top_weight", "effective_n", "size", "growth", "beta", "volatility", "momentum")
MARKET = ("market_volatility", "market_momentum")
NUMBERS = ("date", *MEASURES, *SECTORS, *MARKET)

_SECTOR_WORDS: dict[str, tuple[str, ...]] = {
    "communication": (
        "communication services",
        "communication",
        "communications",
        "telecom",
        "media",
        "telecommunication",
    ),
    "consumer-discretionary": (
        "consumer discretionary",
        "consumer cyclical",
        "retail",
        "leisure",
        "consumer cyclicals",
    ),
    "consumer-staples": ("consumer staples", "consumer defensive", "consumer non-cyclicals", "staples"),
    "energy": ("energy", "oil", "oil and gas"),
    "financials": ("financials", "financial", "financial services", "banks", "banking", "insurance"),
    "health-care": ("health care", "healthcare", "health", "biotech", "biotechnology", "pharma"),
    "industrials": ("industrials", "industrial", "defense", "aerospace", "infrastructure"),
    "materials": ("materials", "basic materials", "mining", "gold", "natural resources", "metals"),
    "real-estate": ("real estate", "reit", "reits"),
    "technology": ("technology", "information technology", "tech", "software", "semiconductors", "semiconductor"),
    "utilities": ("utilities", "utility"),
}
SECTOR_ALIASES = {word: name for name, words in _SECTOR_WORDS.items() for word in (*words, name)}

ALIASES: dict[str, dict[str, str]] = {
    "legal_type": {
        "closed-end fund": "closed-end", "closed end fund": "closed-end",
        "closed-end": "closed-end", "cef": "closed-end",
        "holding company": "closed-end", "permanent capital": "closed-end", "mutual fund": "mutual-fund",
        "open-end fund": "mutual-fund", "open end fund": "mutual-fund", "etf": "etf", "exchange-traded fund": "etf",
        "exchange traded fund": "etf", "hedge fund": "hedge-fund", "adviser": "adviser", "advisor": "adviser",
        "investment adviser": "adviser", "asset manager": "adviser", "foundation": "adviser",
        "family office": "hedge-fund",
        "13f": "adviser",
    },
    "strategy": {
        "thematic": "thematic", "concentrated": "concentrated", "diversified": "diversified", "index": "index",
        "passive": "index", "activist": "activist", "quantitative": "quantitative", "quant": "quantitative",
        "long-short": "long-short", "long/short": "long-short", "focused": "concentrated", "multi-asset": "multi-asset",
        "allocation": "multi-asset", "balanced": "multi-asset", "fundamental": "fundamental", "active": "fundamental",
    },
    "style": {"value": "value", "growth": "growth", "blend": "blend", "core": "blend", "garp": "blend"},
    "cap": {
        "large-cap": "large-cap", "large cap": "large-cap", "large": "large-cap", "mega-cap": "large-cap",
        "mid-cap": "mid-cap", "mid cap": "mid-cap", "mid": "mid-cap", "midcap": "mid-cap", "small-cap": "small-cap",
        "small cap": "small-cap", "small": "small-cap", "smallcap": "small-cap", "micro-cap": "small-cap",
        "all-cap": "all-cap", "all cap": "all-cap", "multi-cap": "all-cap",
    },
    "theme": {
        "dividend": "dividend", "income": "dividend", "equity income": "dividend", "esg": "esg", "sustainable": "esg",
        "sustainability": "esg", "socially responsible": "esg", "innovation": "innovation", "disruptive": "innovation",
        "quality": "quality", "momentum": "momentum", "low volatility": "low-volatility",
        "minimum volatility": "low-volatility", "real assets": "real-assets", "emerging": "emerging-markets",
        "emerging markets": "emerging-markets", "special situations": "special-situations", "china": "china",
    },
    "sector": SECTOR_ALIASES,
    "geography": {
        "us": "us", "usa": "us", "united states": "us", "u.s.": "us", "america": "us", "domestic": "us",
        "global": "global", "world": "global", "international": "international", "foreign": "international",
    },
}  # fmt: skip
_NUMBER_ALIASES = {
    "n": "n_holdings", "holdings": "n_holdings", "names": "n_holdings", "stocks": "n_holdings",
    "positions": "n_holdings",
    "count": "n_holdings", "top": "top_weight", "max": "top_weight", "largest": "top_weight", "vol": "volatility",
    "n_effective": "effective_n", "type": "legal_type", "country": "geography",
}  # fmt: skip
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAME_RULES: tuple[tuple[str, str], ...] = (
    (r"\bREIT\b|REALTY|PROPERT|REAL ESTATE|\bTR(UST)? INC\b.*PPTY", "real-estate"),
    (r"THERAP|PHARM|BIO|MEDIC|HEALTH|GENETIC|GENOM|SURGICAL|DIAGNOS|ONCOLOG|LABS?\b|DENTAL", "health-care"),
    (r"\bBANK|BANC|FINANC|INSUR|CAPITAL|ACQUISITION|TRUST|LOAN|CREDIT|LENDING|ASSURANCE|SAVINGS", "financials"),
    (r"\bOIL\b|PETROL|ENERGY|DRILL|\bGAS\b|MIDSTREAM|PIPELINE|RESOURCES|OFFSHORE|COAL", "energy"),
    (r"SOFTWARE|TECHNOLOG|SEMICOND|SYSTEMS|DATA|CLOUD|CYBER|NETWORKS?|DIGITAL|MICRO|COMPUT|ELECTRONIC", "technology"),
    (r"ELECTRIC|UTILIT|WATER|POWER", "utilities"),
    (r"MINING|MINERAL|GOLD|SILVER|STEEL|CHEM|METAL|PAPER|MATERIALS|COPPER|URANIUM|LITHIUM", "materials"),
    (r"MEDIA|COMMUNICATION|TELE|ENTERTAIN|BROADCAST|WIRELESS|INTERACTIVE|STUDIOS", "communication"),
    (r"FOODS?|BEVERAGE|BRANDS CONSUMER|TOBACCO|GROCER|BREW|FARMS?", "consumer-staples"),
    (r"RETAIL|STORES?|RESTAURANT|APPAREL|MOTOR|AUTO|HOTEL|RESORT|GAMING|HOMES?|TRAVEL|FASHION|CRUISE|CASINO", "consumer-discretionary"),  # noqa: E501
    (r"INDUSTR|AERO|ENGINEER|LOGISTIC|TRANSPORT|AIRLINE|RAIL|MACHIN|CONSTRUCT|SERVICES|FREIGHT|MARINE", "industrials"),
)  # fmt: skip


def sector_name(text: str) -> str:
    """Canonical sector of GICS, Yahoo or iShares names; "" if none."""
    return SECTOR_ALIASES.get(str(text).strip().lower(), "")


def sector_from_issuer(names: Sequence[str]) -> list[str]:
    """Sector guessed from words in issuers' names ("" if nothing matches): for names no table classifies."""
    rules = [(re.compile(pattern), sector) for pattern, sector in _NAME_RULES]
    return [next((s for rule, s in rules if rule.search(n.upper())), "") for n in names]


# ---- tags: numbers measured from holdings


def measure(weights: sparse.csr_matrix, securities: pd.DataFrame) -> pd.DataFrame:
    """Quantitative tags of portfolios.

    Parameters
    ----------
    weights : csr_matrix, shape (fund, security)
        Rows sum to one.
    securities : DataFrame, index security
        Columns ``sector``, ``size`` (0 small .. 1 large), ``growth`` (-1 value .. 1 growth), NaN where unknown.

    Returns
    -------
    DataFrame, one row a fund
        ``n_holdings, top_weight, effective_n, size, growth`` and the sector weights as fractions of what is
        classified. NaN where less than half of the weight is classified.
    """
    out = pd.DataFrame(index=range(weights.shape[0]))
    squared = weights.multiply(weights).sum(axis=1)
    out["n_holdings"] = np.asarray((weights > 0).sum(axis=1)).ravel()
    out["top_weight"] = weights.max(axis=1).toarray().ravel()
    out["effective_n"] = 1.0 / np.maximum(np.asarray(squared).ravel(), 1e-12)
    for name in ("size", "growth"):
        out[name] = _weighted(weights, securities[name].to_numpy(float))
    sector = securities["sector"].to_numpy(str)
    onehot = np.stack([sector == s for s in SECTORS], axis=1).astype(float)
    exposure = np.asarray(weights @ onehot)
    known = exposure.sum(axis=1)
    shares = exposure / np.maximum(known, 1e-12)[:, None]
    shares[known < 0.5] = np.nan
    return pd.concat([out, pd.DataFrame(shares, columns=list(SECTORS))], axis=1)


def _weighted(weights: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Mean of a property over the holdings for which it is known; NaN below half of the weight."""
    known = np.isfinite(values)
    share = np.asarray(weights @ known.astype(float)).ravel()
    total = np.asarray(weights @ np.where(known, values, 0.0)).ravel()
    return np.where(share >= 0.5, total / np.maximum(share, 1e-12), np.nan)


def market_tags(
    weights: sparse.csr_matrix, tickers: Sequence[str], dates: Sequence[pd.Timestamp], prices: pd.DataFrame
) -> pd.DataFrame:
    """Beta, volatility (a year), momentum (12 months less the last) of portfolios as of their dates, and the market's.

    ``prices``: DataFrame (time x ticker). Row t of the result reads prices up to its date only; the market is the
    equal-weighted mean of all prices. NaN where under half of the weight is priced or the prices end 10 days earlier.
    """
    returns = prices.pct_change(fill_method=None)
    market = returns.mean(axis=1)
    at = pd.Index(tickers).get_indexer(prices.columns)
    rows = []
    days = pd.DatetimeIndex(list(dates))
    cache: dict[pd.Timestamp, tuple[np.ndarray, ...]] = {}
    for i, day in enumerate(days):
        end = int(prices.index.searchsorted(day, side="right"))
        if end < 253 or day - prices.index[end - 1] > pd.Timedelta(days=10):
            rows.append([np.nan] * 5)
            continue
        if day not in cache:
            cache[day] = _security_tags(returns.iloc[end - 252 : end], market.iloc[end - 252 : end])
        beta, vol, mom, overall = cache[day]
        values = np.full((3, len(tickers)), np.nan)
        values[:, at[at >= 0]] = np.stack([beta, vol, mom])[:, at >= 0]
        rows.append([*(float(_weighted(weights[i], v)[0]) for v in values), *overall])
    return pd.DataFrame(rows, columns=["beta", "volatility", "momentum", *MARKET])


def _security_tags(returns: pd.DataFrame, market: pd.Series) -> tuple[np.ndarray, ...]:
    r, m = returns.to_numpy(float), market.to_numpy(float)
    enough = np.isfinite(r).sum(axis=0) >= 200
    r0 = np.where(np.isfinite(r), r, 0.0)
    centred = m - m.mean()
    beta = centred @ r0 / (centred @ centred)
    vol = r0.std(axis=0) * np.sqrt(252.0)
    mom = np.expm1(np.log1p(r0[:-21]).sum(axis=0))
    overall = np.array([m.std() * np.sqrt(252.0), np.expm1(np.log1p(m).sum())])
    return (*(np.where(enough, v, np.nan) for v in (beta, vol, mom)), overall)


def descriptive(tags: pd.DataFrame) -> pd.DataFrame:
    """Words that follow from the tags: style, cap, strategy, sector. Empty where the tags do not say."""
    sectors = tags[list(SECTORS)].fillna(0.0).to_numpy()
    lead, share = sectors.argmax(axis=1), sectors.max(axis=1)
    growth, size, n = (tags[c].to_numpy(float) for c in ("growth", "size", "n_holdings"))
    out = pd.DataFrame(index=tags.index)
    out["style"] = np.select([growth > 0.12, growth < -0.12, np.isfinite(growth)], ["growth", "value", "blend"], "")
    out["cap"] = np.select([size > 0.72, size < 0.50, np.isfinite(size)], ["large-cap", "small-cap", "mid-cap"], "")
    out["strategy"] = np.select(
        [share > 0.6, n <= 15, n >= 400, n >= 100],
        ["thematic", "concentrated", "quantitative", "diversified"],
        "fundamental",
    )
    out["sector"] = np.where(share > 0.35, np.array(SECTORS)[lead], "")
    return out


def words_in(text: str) -> dict[str, str]:
    """Descriptive fields named in a fund's name or strategy text; the first mention of each field counts."""
    low = f" {re.sub(r'[^a-z0-9.&/ -]+', ' ', text.lower())} "
    found: dict[str, tuple[int, str]] = {}
    for name, aliases in ALIASES.items():
        for alias, value in aliases.items():
            at = low.find(f" {alias} ")
            if at >= 0 and (name not in found or at < found[name][0]):
                found[name] = (at, value)
    return {name: value for name, (_, value) in found.items()}


# ---- prompts


@dataclass(frozen=True)
class Prompt:
    """What a prompt says.

    Attributes
    ----------
    fields : dict
        Field (of `FIELDS`) to word.
    numbers : dict
        Number (of `NUMBERS`) to value; sector weights and ``top_weight`` as fractions.
    date : Timestamp or None
    unknown : tuple of str
        Parts that mean nothing to the model: reported, never swallowed.
    """

    fields: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    date: pd.Timestamp | None = None
    unknown: tuple[str, ...] = ()

    def without(self, name: str) -> Prompt:
        """The same prompt with one field, number or the date left out."""
        return Prompt(
            {k: v for k, v in self.fields.items() if k != name},
            {k: v for k, v in self.numbers.items() if k != name},
            None if name == "date" else self.date,
            self.unknown,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All that is said."""
        return (*self.fields, *self.numbers, *(("date",) if self.date is not None else ()))


@dataclass(frozen=True)
class Vocabulary:
    """The words a model knows, field by field; index 0 of each field is "not said".

    Parameters
    ----------
    words : dict field -> tuple of str
    manager_aliases : dict
        Lower-case names and surnames to the manager's key.
    """

    words: dict[str, tuple[str, ...]]
    manager_aliases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, described: pd.DataFrame, managers: Mapping[str, str] | None = None) -> Vocabulary:
        """From a table with a column for each field; ``managers`` maps keys to full names."""
        words = {f: tuple(sorted({str(w) for w in described[f].dropna()} - {""})) for f in FIELDS}
        return cls(words, _manager_aliases(words["manager"], managers or {}))

    def index(self, name: str, word: str | None) -> int:
        known = self.words[name]
        return known.index(word) + 1 if word in known else 0

    def parse(self, text: str | Mapping[str, object]) -> Prompt:
        """Read a prompt: comma-separated words, ``key=value`` pairs, or a mapping of them.

        Raises
        ------
        ConfigError
            A key that does not exist, or a value that is no number or no date.
        """
        parts = [f"{k}={v}" for k, v in text.items()] if isinstance(text, Mapping) else re.split(r"[,;\n]+", text)
        fields: dict[str, str] = {}
        numbers: dict[str, float] = {}
        unknown: list[str] = []
        date: pd.Timestamp | None = None
        for part in (p.strip() for p in parts):
            if not part:
                continue
            if "=" in part:
                key, _, value = (s.strip() for s in part.partition("="))
                if key.lower() == "date":
                    date = read_date(value, strict=True)
                else:
                    self._typed(key, value, fields, numbers, unknown)
            elif (found := read_date(part)) is not None:
                date = found
            elif not self._free(part, fields, numbers):
                unknown += self._sift(part, fields, numbers)
        return Prompt(fields, numbers, date, tuple(unknown))

    def _typed(
        self, key: str, value: str, fields: dict[str, str], numbers: dict[str, float], unknown: list[str]
    ) -> None:
        name = key.lower().replace("-", "_").replace(" ", "_")
        name = _NUMBER_ALIASES.get(name, name)
        sector = sector_name(key.lower().replace("_", " ")) or sector_name(key.lower().replace("_", "-"))
        if sector or name in NUMBERS:
            numbers[sector or name] = _value(sector or name, value)
        elif name in FIELDS:
            word = self._word(name, value)
            if word is None:
                unknown.append(f"{key}={value}")
            else:
                fields[name] = word
        else:
            raise ConfigError(
                f"prompt names {key!r}, which is neither a field ({', '.join(FIELDS)}) nor a number "
                f"({', '.join(NUMBERS[: 1 + len(MEASURES)])}, a sector)"
            )

    def _word(self, name: str, text: str) -> str | None:
        low = text.strip().lower()
        if name == "manager":
            low = self.manager_aliases.get(low, low)
        low = ALIASES.get(name, {}).get(low, low)
        return low if low in self.words[name] else None

    def _free(self, part: str, fields: dict[str, str], numbers: dict[str, float]) -> bool:
        """One comma-separated part as a whole."""
        count = re.fullmatch(r"(\d+)\s+(names|holdings|stocks|positions)", part.strip().lower())
        if count:
            numbers["n_holdings"] = float(count.group(1))
            return True
        for name in ("legal_type", "strategy", "style", "cap", "theme", "sector", "geography", "manager"):
            word = self._word(name, part)
            if word is not None and name not in fields:
                fields[name] = word
                return True
        return False

    def _sift(self, part: str, fields: dict[str, str], numbers: dict[str, float]) -> list[str]:
        """Longest known phrases inside a sentence; what is left over is unknown."""
        words = re.findall(r"[A-Za-z0-9.&/'-]+", part)
        left, i = [], 0
        while i < len(words):
            for length in (4, 3, 2, 1):
                phrase = " ".join(words[i : i + length])
                if i + length <= len(words) and self._free(phrase, fields, numbers):
                    i += length
                    break
            else:
                if words[i].lower() not in _FILLER:
                    left.append(words[i])
                i += 1
        return [" ".join(left)] if left else []


_FILLER = frozenset(
    "a an the of in on at with and or for to by fund funds style stock stocks cap company companies as like".split()  # noqa: SIM905
)


def _manager_aliases(keys: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Key, full name, the parts of a "Person - Firm" name, and surnames that name one manager only."""
    aliases: dict[str, str] = {}
    surnames: dict[str, set[str]] = {}
    for key in keys:
        full = names.get(key, key)
        people = [p.strip(" )").lower() for p in re.split(r" [-–] |\(", full)]
        for text in (key, key.replace("_", " "), full.lower(), *people):
            aliases.setdefault(text.lower(), key)
        if people and " " in people[0]:
            surnames.setdefault(people[0].split()[-1], set()).add(key)
    for surname, owners in surnames.items():
        if len(owners) == 1:
            aliases.setdefault(surname, next(iter(owners)))
    return aliases


def read_date(text: str, strict: bool = False) -> pd.Timestamp | None:
    """End of the period a text names: ``Sep 2023``, ``2023-09``, ``2023Q3``, ``2023``, ``2023-09-15`` (itself)."""
    low = text.strip().lower()
    quarter = re.fullmatch(r"(\d{4})[ -]?q([1-4])|q([1-4])[ -]?(\d{4})", low)
    month = re.fullmatch(r"([a-z]{3})[a-z]*\.?[ -](\d{4})", low)
    if quarter:
        year, part = int(quarter[1] or quarter[4]), int(quarter[2] or quarter[3])
        return pd.Timestamp(year, 3 * part, 1) + pd.offsets.MonthEnd(0)
    if month and month[1] in _MONTHS:
        return pd.Timestamp(int(month[2]), _MONTHS.index(month[1]) + 1, 1) + pd.offsets.MonthEnd(0)
    if re.fullmatch(r"(19|20)\d\d", low):
        return pd.Timestamp(int(low), 12, 31)
    if re.fullmatch(r"\d{4}-\d{2}", low):
        return pd.Timestamp(f"{low}-01") + pd.offsets.MonthEnd(0)
    if re.match(r"\d{4}-\d{2}-\d{2}", low):
        date = pd.to_datetime(low[:10], errors="coerce")
        if not pd.isna(date):
            return date
    if strict:
        raise ConfigError(f"date = {text!r} is no date: write 2023-09-30, Sep 2023, 2023Q3 or 2023")
    return None


def _value(name: str, text: str) -> float:
    try:
        number = float(text.rstrip("% ")) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        raise ConfigError(f"prompt says {name} = {text!r}, expected a number") from None
    shares = (*SECTORS, "top_weight")
    if name in shares and not 0 <= number <= 1:
        raise ConfigError(f"prompt says {name} = {text}: expected a fraction from 0 to 1, or a percentage like 40%")
    if name in ("n_holdings", "effective_n") and number < 1:
        raise ConfigError(f"prompt says {name} = {text}: expected at least 1")
    if not np.isfinite(number):
        raise ConfigError(f"prompt says {name} = {text}: expected a finite number")
    return number


# ---- tokens: what a network reads

_SCALES: dict[str, tuple[float, float, bool]] = {
    "date": (6.0, 3.5, False), "n_holdings": (3.2, 1.3, True), "top_weight": (-2.0, 0.8, True),
    "effective_n": (2.6, 0.9, True), "size": (0.7, 0.25, False), "growth": (0.0, 0.2, False),
    "beta": (1.0, 0.2, False), "volatility": (0.25, 0.1, False), "momentum": (0.1, 0.25, False),
    "market_volatility": (0.2, 0.1, False), "market_momentum": (0.1, 0.2, False),
}  # fmt: skip
EPOCH = pd.Timestamp("2013-01-01")


def years_since(date: pd.Timestamp | pd.Series) -> Any:
    """Years since 2013, the clock of the models."""
    return (date - EPOCH) / pd.Timedelta(days=365.25)


def scaled(name: str, values: np.ndarray) -> np.ndarray:
    """A number on the common scale of the networks (about zero mean, unit spread); NaN stays."""
    centre, spread, log = _SCALES.get(name, (0.1, 0.15, False))
    x = np.log(np.maximum(values, 1e-6)) if log else values
    return np.clip((x - centre) / spread, -6.0, 6.0)


def unscaled(name: str, value: float) -> float:
    """Inverse of `scaled` inside its range."""
    centre, spread, log = _SCALES[name]
    x = float(np.clip(value, -6.0, 6.0)) * spread + centre
    return float(np.exp(x)) if log else x


def tokens(prompts: Iterable[Prompt], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as arrays: word indices (prompt, field) and scaled numbers (prompt, number); 0 and NaN where not said."""
    listed = list(prompts)
    words = np.zeros((len(listed), len(FIELDS)), dtype=np.int64)
    numbers = np.full((len(listed), len(NUMBERS)), np.nan)
    for i, prompt in enumerate(listed):
        for j, name in enumerate(FIELDS):
            words[i, j] = vocabulary.index(name, prompt.fields.get(name))
        said = dict(prompt.numbers)
        if prompt.date is not None:
            said["date"] = float(years_since(prompt.date))
        for name, value in said.items():
            numbers[i, NUMBERS.index(name)] = scaled(name, np.array(value))
    return words, numbers


def tokens_of(described: pd.DataFrame, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The same arrays for a table of funds with columns `FIELDS`, ``as_of`` and `NUMBERS`."""
    words = np.stack(
        [described[f].map(lambda w, f=f: vocabulary.index(f, w)).to_numpy(np.int64) for f in FIELDS], axis=1
    )
    numbers = np.full((len(described), len(NUMBERS)), np.nan)
    for j, name in enumerate(NUMBERS):
        if name == "date":
            numbers[:, j] = scaled(name, np.asarray(years_since(described["as_of"]), dtype=float))
        elif name in described:
            numbers[:, j] = scaled(name, described[name].to_numpy(float))
    return words, numbers
