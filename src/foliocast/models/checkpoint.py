"""Saved models: a folder with ``weights.safetensors`` and ``card.json``. Nothing is ever unpickled.

The card says what the model is, what it was fitted on, until when, and the SHA-256 of its weights.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foliocast import __version__
from foliocast.core.errors import DataError

WEIGHTS, CARD, FORMAT = "weights.safetensors", "card.json", 1


@dataclass(frozen=True)
class ModelCard:
    """What must be known about a model before it is used.

    Parameters
    ----------
    kind : str
        ``module:Class`` inside ``foliocast.models``.
    params : dict
        Arguments of the constructor (JSON values).
    state : dict
        Fitted numbers that are not weights: scalers, thresholds, names (JSON values).
    features, assets : tuple of str
    data_hash : str
        Content hash of the panel it was fitted on.
    knowledge_until : str
        ISO time of the last row that shaped it.
    code_version, weights_sha256 : str
        Filled on saving.
    """

    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    data_hash: str = ""
    knowledge_until: str = ""
    code_version: str = __version__
    weights_sha256: str = ""
    format: int = FORMAT

    @property
    def known_until(self) -> pd.Timestamp | None:
        return pd.Timestamp(self.knowledge_until) if self.knowledge_until else None


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor | np.ndarray], card: ModelCard) -> ModelCard:
    """Write weights and card into a folder, all or nothing; an existing model there is replaced.

    Returns
    -------
    ModelCard
        The card as written, with the hash of the weights.
    """
    target = Path(path)
    if target.exists() and not (target / CARD).is_file():
        raise DataError(f"{target} exists and is no saved model; choose another path, nothing was overwritten")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        flat = {k: torch.as_tensor(v).detach().cpu().contiguous().clone() for k, v in tensors.items()}
        save_file(flat, partial / WEIGHTS)
        fields = asdict(card) | {"weights_sha256": _sha256(partial / WEIGHTS)}
        (partial / CARD).write_text(json.dumps(fields, indent=2, allow_nan=False), encoding="utf-8")
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            os.rename(target, old)
            os.rename(partial, target)
            shutil.rmtree(old)
        else:
            os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _card(fields)


def read_card(path: str | Path) -> ModelCard:
    """The card of a saved model, without its weights.

    Raises
    ------
    DataError
        The folder is no saved model, or its card cannot be read.
    """
    file = Path(path) / CARD
    if not file.is_file():
        raise DataError(f"{path} is no saved model: there is no {CARD} in it; train one with `foliocast train`")
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise DataError(f"{file} has format {fields['format']}, this version reads format {FORMAT}; train it anew")
        return _card(fields)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise DataError(f"{file} is no model card: it is cut off or was written by something else") from None


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights and card of a saved model, after the hash of the weights has been checked.

    Raises
    ------
    DataError
        Missing, foreign, or changed since it was saved.
    """
    card = read_card(path)
    weights = Path(path) / WEIGHTS
    if not weights.is_file():
        raise DataError(f"{path} is no whole model: there is no {WEIGHTS} beside the card; copy the whole folder")
    if _sha256(weights) != card.weights_sha256:
        raise DataError(
            f"{weights} is not what its card says (SHA-256 differs): the file was damaged or exchanged; "
            "take the model from its source again or train it anew"
        )
    try:
        return load_file(weights), card
    except SafetensorError as error:
        raise DataError(f"{weights} is no safetensors file ({error}); train the model anew") from None


def load_model(path: str | Path) -> Any:
    """The fitted model saved in a folder, whatever its class.

    Only classes inside ``foliocast.models`` that define ``from_checkpoint`` are ever built.
    """
    tensors, card = load_checkpoint(path)
    module, _, name = card.kind.partition(":")
    if not module.startswith("foliocast.models."):
        raise DataError(f"{path} names the class {card.kind!r}, which is no model of foliocast; it is not loaded")
    try:
        maker = getattr(importlib.import_module(module), name)
        build = maker.from_checkpoint
    except (ImportError, AttributeError):
        raise DataError(
            f"{path} holds a {card.kind!r} made by foliocast {card.code_version}, which version {__version__} does "
            "not have; install a version that has it or train the model anew"
        ) from None
    return build(tensors, card)


class Saveable(ABC):
    """Gives an estimator ``save`` and ``load``; it defines `to_checkpoint` and `from_checkpoint`."""

    @abstractmethod
    def to_checkpoint(self) -> tuple[dict[str, Tensor], ModelCard]:
        """Weights and card of the fitted model."""

    @classmethod
    @abstractmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor], card: ModelCard) -> Self:
        """The fitted model again."""

    def save(self, path: str | Path) -> ModelCard:
        """Write the fitted model into a folder."""
        return save_checkpoint(path, *self.to_checkpoint())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model of this class.

        Raises
        ------
        DataError
            The folder holds no model, a damaged one, or one of another class.
        """
        model = load_model(path)
        if not isinstance(model, cls):
            raise DataError(f"{path} holds a {type(model).__name__}, expected a {cls.__name__}; use load_model()")
        return model


def kind_of(model: object) -> str:
    """``module:Class``, as cards name it."""
    return f"{type(model).__module__}:{type(model).__qualname__}"


def _card(fields: dict[str, Any]) -> ModelCard:
    return ModelCard(**fields | {"features": tuple(fields["features"]), "assets": tuple(fields["assets"])})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
