"""The one training loop: every network of the product is trained here.

A model hands over a module, its samples and a loss; the loop does the rest: Adam or AdamW, clipping, learning-rate
schedule, exponential moving average with warm-up, mixed precision, early stopping, resumption.

Randomness is a pure function of ``(seed, epoch)`` and ``(seed, step)``: nothing is seeded globally and a resumed run
ends with the same bits as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.runtime.progress import tell

Loss = Callable[[Any, tuple[Tensor, ...], torch.Generator], Tensor]
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class TrainingSpec:
    """How a network is trained.

    Parameters
    ----------
    optimizer : {"adam", "adamw"}
        Adam adds ``weight_decay`` to the gradient (L2), AdamW decays the weights themselves.
    lr, weight_decay : float
    batch_size, epochs : int
    max_steps : int or None
        Ends the run after that many optimiser steps, whatever the epoch.
    clip : float or None
        Largest global norm of the gradient.
    patience : int or None
        Epochs without a better validation loss before the run stops; None never stops early. The best weights of
        the run are served whenever a validation set is given.
    ema : float or None
        Decay of the moving average of the weights; it warms up as ``min(ema, (1 + n) / (10 + n))``.
    schedule : {"constant", "cosine"}
        Cosine goes from ``lr`` to a hundredth of it over the whole run.
    warmup_steps : int
        Linear rise of the learning rate.
    amp : {"none", "bf16", "fp16", "auto"}
        Mixed precision; weights and optimiser stay in fp32. "auto" is bf16 where the processor multiplies it natively.
    device : {"cpu", "cuda", "auto"}
    save_every : int or None
        Steps between two saves of the resumable state (besides every end of an epoch).
    seed : int
    """

    optimizer: str = "adam"
    lr: float = 3e-4
    weight_decay: float = 1e-4
    batch_size: int = 32
    epochs: int = 15
    max_steps: int | None = None
    clip: float | None = 1.0
    patience: int | None = None
    ema: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    amp: str = "none"
    device: str = "cpu"
    save_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adam", "adamw"),
            "schedule": ("constant", "cosine"),
            "amp": ("none", "bf16", "fp16", "auto"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = {getattr(self, name)!r} is not known; choose from {', '.join(allowed)}")
        if min(self.batch_size, self.epochs) < 1 or self.lr <= 0 or self.weight_decay < 0:
            raise ConfigError("batch_size and epochs must be at least 1, lr positive, weight_decay not negative")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema = {self.ema} must lie between 0 and 1 (0.999 is usual), or be None")


def initialised(build: Callable[[], Module], seed: int) -> Module:
    """A module whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


class Samples(Protocol):
    """Anything the loop can draw batches from."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """The samples with these numbers, stacked along the first axis of every tensor."""
        ...


class TensorSamples:
    """Samples that lie in memory: tensors with a common first axis."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or len({len(t) for t in tensors}) != 1:
            raise DataError(f"tensors of samples need one common length, found {[len(t) for t in tensors]}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)


@dataclass(frozen=True)
class TrainingResult:
    """What became of a run.

    Attributes
    ----------
    history : list of dict
        One row an epoch: ``epoch``, ``train_loss`` and, if validated, ``valid_loss``.
    best_epoch : int
        Epoch (from 1) whose weights are served.
    steps : int
        Optimiser steps taken.
    stopped_early : bool
    """

    history: list[dict[str, float]]
    best_epoch: int
    steps: int
    stopped_early: bool


class Ema:
    """Moving average of a module's parameters and buffers, with warm-up.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``: the weight of the initial values falls like
    n**-9 at first, so that a short run does not serve its initialisation.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = _copy(module)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)


def chronological_split(positions: np.ndarray, fraction: float, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples train and which, from the end of the record, validate.

    Parameters
    ----------
    positions : ndarray of int, shape (sample,)
        Bar of each sample's last input.
    fraction : float
        Share of the distinct bars that validate; 0 validates on nothing.
    gap : int
        Bars dropped in between: the length of a window plus the label's horizon, so that no training sample shares
        a value with a validation sample.

    Returns
    -------
    train, valid : ndarray of int
        Sample numbers; ``valid`` is empty when the record is too short to spare a tail and a gap.
    """
    everything = np.arange(len(positions))
    bars = np.unique(positions)
    tail = int(len(bars) * fraction)
    if tail < 1:
        return everything, everything[:0]
    first_valid = bars[-tail]
    train = np.flatnonzero(positions < first_valid - gap)
    if len(train) < 2 * (positions >= first_valid).sum():
        return everything, everything[:0]
    return train, np.flatnonzero(positions >= first_valid)


def train(
    module: nn.Module,
    samples: Samples,
    loss: Loss,
    spec: TrainingSpec,
    validation: Samples | None = None,
    resume_path: str | Path | None = None,
    callback: Callable[[dict[str, float]], None] | None = None,
) -> TrainingResult:
    """Train a module in place.

    Parameters
    ----------
    module : nn.Module
    samples, validation : Samples
        Drawn in batches; every sample once an epoch, in an order that depends on (seed, epoch) only.
    loss : callable ``(module, batch, generator) -> scalar tensor``
        ``generator`` lives on the training device, and is the only source of randomness a loss needs.
    spec : TrainingSpec
    resume_path : path, optional
        A file that holds the state of the run; if it exists the run continues from it.
    callback : callable, optional
        Called after every epoch with the row of history.

    Returns
    -------
    TrainingResult
        The module holds the served weights: the best on validation (if given), averaged (if ``spec.ema``).

    Raises
    ------
    HistoryError
        No sample to train on.
    DataError
        The loss is not finite, or the state to resume from belongs to another run.
    """
    if len(samples) == 0:
        raise HistoryError("there is no sample to train on: the history is shorter than one window and its label")
    run = _Run(module, samples, loss, spec, validation)
    path = None if resume_path is None else Path(resume_path)
    if path is not None and path.exists():
        run.restore(path)
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        while not run.finished:
            row = run.epoch(path)
            if path is not None:
                run.save(path)
            if callback is not None:
                callback(row)
    tell("training", run.total_steps, run.total_steps)  # early stopping ends the bar, too
    return run.close()


def seed_of(*numbers: int) -> int:
    """A 63-bit seed that is a pure function of several integers."""
    return (
        int(np.random.SeedSequence([int(n) & 0xFFFFFFFFFFFFFFFF for n in numbers]).generate_state(1, np.uint64)[0]) >> 1
    )


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device = {name!r}, but torch finds no CUDA device here; use device = 'cpu' or 'auto'")
    return torch.device(name)


def pick_amp(name: str, device: torch.device) -> str:
    """The precision meant by ``amp``: "auto" becomes bf16 where the hardware has it, else none."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "none"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "none"


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@dataclass
class _Progress:
    """Everything about a run that is not a tensor."""

    epoch: int = 0
    step: int = 0
    batch: int = 0  # batches done in the present epoch
    loss_sum: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    stopped_early: bool = False
    ema_updates: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class _Run:
    """A run in progress: what `train` steps, saves and restores."""

    def __init__(
        self, module: nn.Module, samples: Samples, loss: Loss, spec: TrainingSpec, validation: Samples | None
    ) -> None:
        self.module, self.samples, self.loss, self.spec, self.validation = module, samples, loss, spec, validation
        self.device = pick_device(spec.device)
        module.to(self.device)
        maker = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = maker(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)
        self.amp = pick_amp(spec.amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")
        self.ema = None if spec.ema is None else Ema(module, spec.ema)
        self.best: dict[str, Tensor] | None = None
        self.generator = torch.Generator(device=self.device)
        self.done = _Progress()
        batches = math.ceil(len(samples) / spec.batch_size)
        self.total_steps = min(spec.epochs * batches, spec.max_steps or spec.epochs * batches)

    @property
    def finished(self) -> bool:
        return self.done.stopped_early or self.done.step >= self.total_steps

    # ---- one epoch
    def epoch(self, path: Path | None) -> dict[str, float]:
        """Run the present epoch to its end and validate."""
        done, spec = self.done, self.spec
        order = torch.randperm(
            len(self.samples), generator=torch.Generator().manual_seed(seed_of(spec.seed, 1, done.epoch))
        )
        batches = order.split(spec.batch_size)
        self.module.train()
        while done.batch < len(batches) and done.step < self.total_steps:
            done.loss_sum += self._step(batches[done.batch])
            done.batch += 1
            done.step += 1
            tell("training", done.step, self.total_steps)
            if path is not None and spec.save_every and done.step % spec.save_every == 0:
                self.save(path)
        row = {"epoch": float(done.epoch + 1), "train_loss": done.loss_sum / max(1, done.batch)}
        done.epoch += 1
        if self.validation is not None and len(self.validation):
            row["valid_loss"] = self._validate()
            self._keep_best(row["valid_loss"])
        done.history.append(row)
        done.batch, done.loss_sum = 0, 0.0
        return row

    def _step(self, index: Tensor) -> float:
        self._reseed(2, self.done.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        batch = self._to_device(self.samples.batch(index))
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            value = self.loss(self.module, batch, self.generator)
        number = float(value.detach())
        if not math.isfinite(number):
            raise DataError(
                f"the training loss became {number} at step {self.done.step}: inputs hold NaN or infinite values, or "
                f"lr = {self.spec.lr} is too large; check the features or lower lr"
            )
        self.scaler.scale(value).backward()
        if self.spec.clip is not None:
            self.scaler.unscale_(self.optimizer)  # otherwise the loss scale is what gets clipped
            nn.utils.clip_grad_norm_(self.module.parameters(), self.spec.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.module)
        return number

    def _lr(self) -> float:
        spec, step = self.spec, self.done.step
        scale = min(1.0, (step + 1) / (spec.warmup_steps + 1))
        if spec.schedule == "cosine":
            scale *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / max(1, self.total_steps)))
        return spec.lr * scale

    def _reseed(self, *numbers: int) -> None:
        """Explicit generator for the loss, and the forked default ones for dropout."""
        seed = seed_of(self.spec.seed, *numbers)
        self.generator.manual_seed(seed)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.amp == "none":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.amp == "bf16" else torch.float16)

    def _to_device(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(t.to(self.device) for t in batch)

    # ---- validation
    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss over the validation samples, with the weights that would be served and the same noise each time."""
        assert self.validation is not None
        live = _copy(self.module) if self.ema is not None else None
        if self.ema is not None:
            self.module.load_state_dict(self.ema.shadow)
        self.module.eval()
        self._reseed(3)
        total = 0.0
        for index in torch.arange(len(self.validation)).split(max(128, self.spec.batch_size)):
            with self._autocast():
                value = self.loss(self.module, self._to_device(self.validation.batch(index)), self.generator)
            total += float(value) * len(index)
        if live is not None:
            self.module.load_state_dict(live)
        return total / len(self.validation)

    def _keep_best(self, loss: float) -> None:
        done, spec = self.done, self.spec
        if loss < done.best_loss:
            done.best_loss, done.best_epoch = loss, done.epoch
            source = self.module.state_dict() if self.ema is None else self.ema.shadow
            self.best = {name: value.detach().clone() for name, value in source.items()}
        elif spec.patience is not None and done.epoch - done.best_epoch >= spec.patience:
            done.stopped_early = True

    def close(self) -> TrainingResult:
        """Put the served weights into the module."""
        served = self.best if self.best is not None else (None if self.ema is None else self.ema.shadow)
        if served is not None:
            self.module.load_state_dict(served)
        self.module.eval()
        done = self.done
        best = done.best_epoch if self.best is not None else done.epoch
        return TrainingResult(list(done.history), best, done.step, done.stopped_early)

    # ---- resumption
    def _identity(self) -> dict[str, Any]:
        shapes = {name: list(p.shape) for name, p in self.module.named_parameters()}
        return {"spec": asdict(self.spec), "samples": len(self.samples), "shapes": shapes}

    def save(self, path: Path) -> None:
        """Write the whole state to one file, atomically."""
        tensors = {f"live/{k}": v for k, v in self.module.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{k}": v for k, v in self.ema.shadow.items()}
            self.done.ema_updates = self.ema.updates
        if self.best is not None:
            tensors |= {f"best/{k}": v for k, v in self.best.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{k}": torch.as_tensor(v) for k, v in state.items()}
        self.done.scaler = self.scaler.state_dict()
        header = {"progress": json.dumps(asdict(self.done)), "identity": json.dumps(self._identity(), sort_keys=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + f".{os.getpid()}.partial")
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, partial, metadata=header)
        os.replace(partial, path)

    def restore(self, path: Path) -> None:
        """Continue from a saved state of the same run."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is no saved training state ({error}); delete it to train from the start") from None
        if header.get("identity") != json.dumps(self._identity(), sort_keys=True):
            raise DataError(
                f"{path} holds the state of another run (other settings, network or number of samples); "
                "give this run its own resume_path, or delete the file to train from the start"
            )
        self.done = _Progress(**json.loads(header["progress"]))
        part = lambda name: {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + "/")}  # noqa: E731
        self.module.load_state_dict(part("live"))
        if self.ema is not None:
            self.ema.updates = self.done.ema_updates
            self.ema.shadow = {k: v.to(self.device) for k, v in part("ema").items()}
        best = part("best")
        self.best = {k: v.to(self.device) for k, v in best.items()} or None
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer").items():
            number, name = key.split("/")
            states.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self.done.scaler:
            self.scaler.load_state_dict(self.done.scaler)
