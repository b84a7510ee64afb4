"""The book a portfolio starts from: the last one its manager has filed, or one that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foliocast.core.errors import ConfigError, DataError
from foliocast.features.funds import EPOCH, FIELDS, NUMBERS, Prompt, Vocabulary, read_date, tokens
from foliocast.models.funds.memory import QUARTER, Earlier, Memory, described
from foliocast.models.funds.scenes import Scene
from foliocast.models.funds.securities import positions


@dataclass(frozen=True)
class Book:
    """An earlier book: positions among the scene's securities, weights, age in years, tokens, what it is called."""

    at: np.ndarray
    weights: np.ndarray
    age: float
    words: np.ndarray
    numbers: np.ndarray
    told: dict[str, object]


def remembered(memory: Memory, vocabulary: Vocabulary, said: Prompt) -> Book | None:
    """The last book of the manager that is named, as far as it had been filed by the date."""
    assert said.date is not None
    day = (said.date - EPOCH).days
    asked = tokens([said], vocabulary)[0][0]
    row = memory.last(asked, day)
    if row is None:
        return None
    dates = {k: f"{EPOCH + pd.Timedelta(days=int(v)):%Y-%m-%d}" for k, v in
             (("as_of", memory.as_of[row]), ("filed", memory.known[row]))}  # fmt: skip
    told: dict[str, object] = {"fund": memory.funds[memory.fund[row]], **dates}
    age = (day - int(memory.as_of[row])) / 365.25
    return Book(*memory.book(row), age, memory.heard(row, asked), memory.numbers[row], told)


def handed_in(book: pd.DataFrame, said: Prompt, scene: Scene, vocabulary: Vocabulary) -> Book:
    """A book the caller hands in as the earlier one."""
    assert said.date is not None
    at = positions(scene.securities.tickers, list(book.index))
    weights = book["weight"].to_numpy(float)
    weights = weights / weights.sum()
    date = read_date(str(book.attrs["date"]), strict=True) if "date" in book.attrs else None
    age = QUARTER if date is None else (said.date - date).days / 365.25
    if age < 0:
        raise ConfigError(f"the previous book is of {date:%Y-%m-%d}, after the date asked for, {said.date:%Y-%m-%d}")
    words, numbers = described(weights, scene.securities, at, vocabulary)
    told: dict[str, object] = {
        "fund": "handed in",
        "as_of": "" if date is None else str(date.date()),
    }
    return Book(at, weights, age, words[0], numbers[0], told)


def table_of(book: pd.Series | pd.DataFrame) -> pd.DataFrame:
    """A book that is handed in, as a table by ticker with a column ``weight``."""
    table = book.to_frame("weight") if isinstance(book, pd.Series) else book
    table = table.set_axis(table.index.astype(str))
    if "weight" not in table or not (table["weight"] >= 0).all() or not table["weight"].sum() > 0:
        raise DataError("the previous book needs a weight a ticker, none negative or missing, and not all zero")
    table.attrs = book.attrs
    return table


def over_columns(pasts: Sequence[Book | None], scene: Scene, allowed: Tensor) -> Earlier:
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
