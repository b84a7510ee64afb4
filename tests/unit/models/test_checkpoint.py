"""Saved models: whole or not at all, checked on loading, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foliocast.core.errors import DataError
from foliocast.models.checkpoint import ModelCard, load_checkpoint, load_model, read_card, save_checkpoint

CARD = ModelCard("foliocast.models.nowhere:Thing", {"hidden": 64}, {"scale": [0.1, 0.2]}, ("a", "b"), ("AAPL",), "ff")


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([3])}
    written = save_checkpoint(tmp_path / "model", tensors, CARD)
    read, card = load_checkpoint(tmp_path / "model")
    assert card == written == read_card(tmp_path / "model")
    assert card.features == ("a", "b")
    assert card.state == {"scale": [0.1, 0.2]}
    assert len(card.weights_sha256) == 64
    assert all(torch.equal(read[k], tensors[k]) for k in tensors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_replaces_a_model_but_nothing_else(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", {"w": torch.zeros(1)}, CARD)
    save_checkpoint(tmp_path / "m", {"w": torch.ones(1)}, CARD)
    assert float(load_checkpoint(tmp_path / "m")[0]["w"]) == 1.0
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="nothing was overwritten"):
        save_checkpoint(tmp_path / "papers", {"w": torch.zeros(1)}, CARD)
    assert (tmp_path / "papers" / "thesis.txt").exists()


def test_failed_save_leaves_the_old_model(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", {"w": torch.zeros(1)}, CARD)
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "m", {"w": torch.ones(1)}, ModelCard("x:y", {"lr": float("nan")}))
    assert float(load_checkpoint(tmp_path / "m")[0]["w"]) == 0.0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", {"w": torch.zeros(100)}, CARD)
    file = tmp_path / "m" / "weights.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match="SHA-256 differs"):
        load_model(tmp_path / "m")
    file.unlink()
    with pytest.raises(DataError, match="no whole model"):
        load_model(tmp_path / "m")


def test_foreign_folders_and_cards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no saved model"):
        load_model(tmp_path / "missing")
    for text in ("", "{", "[]", '{"format": 1}', '{"format": 1, "features": [], "assets": [], "surprise": 1}'):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(DataError, match="no model card"):
            load_model(tmp_path)
    (tmp_path / "card.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="format 99"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("os:system", "no model of foliocast"),
        ("foliocast.models.nowhere:Thing", "does not have"),
        ("foliocast.models.training:TrainingSpec", "does not have"),
    ],
)
def test_only_our_models_are_built(tmp_path: Path, kind: str, message: str) -> None:
    save_checkpoint(tmp_path / "m", {"w": torch.zeros(1)}, CARD)
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    (tmp_path / "m" / "card.json").write_text(json.dumps(card | {"kind": kind}))
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / "m")
