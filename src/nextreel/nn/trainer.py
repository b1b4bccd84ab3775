"""Epochs, early stopping, best weights, and a state that survives a kill. Knows no model: it is handed a loss, batches
and a measure.

A fit that is killed and begun again ends with the bytes of an unbroken one. Its state is saved after every epoch and,
within one, every few minutes at the end of a stretch of batches; one that takes long to save, as of a large catalogue,
less often, but at the end of all. Batches of the running epoch are drawn again up to there, from the generator's state
at its start, and not trained on.
"""

import copy
import itertools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nextreel import files
from nextreel.errors import UserError
from nextreel.nn import device
from nextreel.nn.checkpoint import Checkpoint, Tensors
from nextreel.params import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section, Share
from nextreel.progress import bar

B = TypeVar("B")
Measured = Mapping[str, Mapping[str, float]]  # on valid: metrics of each head, `loss` among them
_STRETCH = 128  # batches, at whose end a state can be saved
_SECONDS = 180  # between two states within an epoch, at least,
_TIMES = 50  # and so many times what saving one took, within an epoch or at its end; the last is always saved


class Params(Section):
    """How a neural model is optimised."""

    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    patience: NonNegativeInt  # epochs without a better valid metric before training stops
    schedule: Literal["constant", "cosine"]  # of the rate after the warm-up; cosine: down to 0 at the last of `epochs`
    warmup_share: Share  # of all steps, in which the rate grows linearly
    clip: PositiveFloat | None  # norm that the gradient of all weights is held to
    device: device.Name  # where it is trained; a saved model answers on the processor


class Choice(NamedTuple):
    """The metric on valid by which the best epoch is known."""

    head: str
    metric: str
    least: bool = False  # the lower, the better

    def worth(self, measured: Measured) -> float:
        value = measured[self.head][self.metric]
        return -value if self.least else value


class Session(NamedTuple):
    """How a fit is watched and kept; without any of it, it trains its epochs to the end."""

    # Of the model in training, the metric among them that the task is chosen by. Without it the last epoch is the best.
    measure: Callable[[Any], Measured] | None = None
    # CSV, whole after every epoch, to be watched: model, head, epoch, kept (1: the best so far), loss, those metrics
    curve: Path | None = None
    rates: Path | None = None  # CSV: how fast each epoch was; differs from run to run, so it is no output
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Task(Generic[B]):
    """What is trained. `epoch` and `losses` draw from `rng` and torch's generators, and from no other."""

    name: str  # of the model
    network: torch.nn.Module  # what it holds beside its state_dict, `train()` drops
    optimizers: Sequence[torch.optim.Optimizer]  # of its parameters, each in one of them
    epoch: Callable[[], Iterator[B]]  # the batches of one; their order is drawn before the first is out
    n_batches: int  # of an epoch, about
    losses: Callable[[B], Mapping[str, Tensor]]  # by head
    weights: Mapping[str, float]  # of the heads in the sum that is made smaller
    choice: Choice
    n_targets: Callable[[B], int]
    rng: np.random.Generator


@dataclass
class _Progress:
    """How far a fit has come, as JSON holds it."""

    best_epoch: int  # whose weights are kept
    best: float = -math.inf  # its worth
    epochs: int = 0  # that are over
    steps: int = 0  # in all
    ended: bool = False
    # Of the running epoch:
    batches: int = 0
    losses: dict[str, float] = field(default_factory=dict)  # of each head, the sum over the batches
    targets: int = 0
    seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)  # a line an epoch and head
    rates: list[dict[str, Any]] = field(default_factory=list)  # a line an epoch


def train(task: Task[B], params: Params, session: Session, model: Any) -> int:
    """Train a network; returns the number of epochs behind the weights that it is left with.

    With a measure, which is asked about `model` after each epoch, the weights are those of the best epoch, and training
    stops early. Without, they are the last.

    Raises UserError where the loss is no number, or train has no target.
    """
    return _Fit(task, params, session, model).run()


def rate_at(step: int, n_steps: int, params: Params) -> float:
    """The share of `lr` at a step, counted from 0, of `n_steps`. Those beyond are as the last one."""
    warm = round(params.warmup_share * n_steps)
    if step < warm:
        return (step + 1) / warm
    if params.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(n_steps - warm, 1))))


def clip(parameters: Iterable[Tensor], norm: float) -> None:
    """`torch.nn.utils.clip_grad_norm_`, which knows no sparse gradients. Those are coalesced."""
    gradients = []
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            if gradient.is_sparse:
                parameter.grad = gradient = gradient.coalesce()
            gradients.append(gradient.values() if gradient.is_sparse else gradient)
    share = (norm / (torch.nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(share)


class _Fit(Generic[B]):
    def __init__(self, task: Task[B], params: Params, session: Session, model: Any) -> None:
        self.task, self.params, self.session, self.model = task, params, session, model
        self.n_steps = params.epochs * task.n_batches
        self.lr = [group["lr"] for group in self._groups()]
        self.device = next(task.network.parameters()).device
        self.at = _Progress(best_epoch=params.epochs)
        self.best: Tensors = {}  # weights of the best epoch
        self.epoch_began = task.rng.bit_generator.state
        self.saved, self.saving = time.monotonic(), 0.0  # when last, and the seconds that it took

    def run(self) -> int:
        network, at = self.task.network, self._resume()
        with bar(f"{self.task.name} trains", total=self.n_steps, done=at.steps) as shown:
            while not at.ended:
                network.train()
                self._epoch(shown)
                network.eval()
                self._judge()
                if at.ended and self.best:
                    network.load_state_dict(self.best)
                if at.ended or self._due():
                    self._save()
        network.eval()
        return at.best_epoch

    def _epoch(self, shown: tqdm) -> None:
        """Train to the end of the running epoch."""
        task, at = self.task, self.at
        batches = self._batches()
        began = time.monotonic()
        for batch in batches:
            self._step(batch)
            shown.update()
            if at.batches % _STRETCH == 0:
                task.network.train()
                if self._due(_SECONDS):
                    at.seconds += time.monotonic() - began
                    self._save()
                    began = time.monotonic()
        at.seconds += time.monotonic() - began
        if not at.batches:
            raise UserError(f"{task.name}: train has no target; raise `model.passed_weight` or lower the label's bar")

    def _batches(self) -> Iterator[B]:
        """Those of the running epoch that are left."""
        rng, at = self.task.rng, self.at
        if not at.batches:
            self.epoch_began = rng.bit_generator.state
            return self.task.epoch()
        now, generators = rng.bit_generator.state, self._generators()
        rng.bit_generator.state = self.epoch_began
        batches = self.task.epoch()
        for _trained in itertools.islice(batches, at.batches):
            pass
        rng.bit_generator.state = now
        self._set_generators(generators)
        return batches

    def _step(self, batch: B) -> None:
        task, at, params = self.task, self.at, self.params
        for group, lr in zip(self._groups(), self.lr, strict=True):
            group["lr"] = lr * rate_at(at.steps, self.n_steps, params)
        task.network.zero_grad()
        losses = task.losses(batch)
        loss = torch.stack([task.weights[head] * each for head, each in losses.items()]).sum()
        values = dict(zip(losses, torch.stack([*losses.values()]).tolist(), strict=True))
        for head, value in values.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{task.name}: the loss of {head} is {value} in epoch {at.epochs + 1}, batch {at.batches + 1} of"
                    f" about {task.n_batches}; lower `model.lr` ({params.lr:g}) or set `model.clip`, to 1 for example"
                )
        loss.backward()
        if params.clip is not None:
            clip(task.network.parameters(), params.clip)
        for optimizer in task.optimizers:
            optimizer.step()
        at.steps += 1
        at.batches += 1
        at.losses = {head: at.losses.get(head, 0.0) + value for head, value in values.items()}
        at.targets += task.n_targets(batch)

    def _groups(self) -> list[dict[str, Any]]:
        """What the optimisers have each a rate for."""
        return [group for optimizer in self.task.optimizers for group in optimizer.param_groups]

    def _judge(self) -> None:
        """What follows an epoch: its lines, whether it is the best, and whether it is the last."""
        at, session = self.at, self.session
        at.epochs += 1
        at.rates.append(
            {
                "epoch": at.epochs,
                "batches": at.batches,
                "targets": at.targets,
                "seconds": at.seconds,
                "targets_per_s": at.targets / at.seconds,
                "peak_memory_mb": self._peak_memory_mb(),
            }
        )
        if session.measure is not None:
            measured = session.measure(self.model)
            for head, loss in at.losses.items():
                line = {"model": self.task.name, "head": head, "epoch": at.epochs, "loss": loss / at.batches}
                at.curve.append(line | {f"valid_{name}": value for name, value in measured.get(head, {}).items()})
            worth = self.task.choice.worth(measured)
            if worth > at.best:
                at.best, at.best_epoch = worth, at.epochs
                self._keep()
        self._write()
        at.ended = at.epochs == self.params.epochs or at.epochs - at.best_epoch > self.params.patience
        at.batches, at.losses, at.targets, at.seconds = 0, {}, 0, 0.0

    def _keep(self) -> None:
        """The weights as the best ones, over those before: a large table is never held three times."""
        weights = self.task.network.state_dict()
        if not self.best:
            self.best = copy.deepcopy(weights)
        for name, value in self.best.items():
            value.copy_(weights[name])

    def _write(self) -> None:
        curve = [line | {"kept": int(line["epoch"] == self.at.best_epoch)} for line in self.at.curve]
        for path, lines in ((self.session.curve, curve), (self.session.rates, self.at.rates)):
            if path is not None and lines:
                names = dict.fromkeys(name for line in lines for name in line)  # heads have metrics of their own
                files.write_csv(path, {name: np.array([line.get(name, np.nan) for line in lines]) for name in names})

    def _peak_memory_mb(self) -> int:
        """Of the device, or of the process so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) >> 20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10  # in KiB on Linux

    # --- the state that is kept ---

    def _due(self, seconds: float = 0.0) -> bool:
        """Whether more time than that has passed since a state was saved, and saving one is cheap beside it."""
        return time.monotonic() - self.saved > max(seconds, _TIMES * self.saving)

    def _save(self) -> None:
        if self.session.checkpoint is None:
            return
        began = time.monotonic()
        tensors = {f"network/{name}": value for name, value in self.task.network.state_dict().items()}
        tensors |= {f"generator/{name}": value for name, value in self._generators().items()}
        other: dict[str, Any] = {}  # of the optimiser, what is no tensor
        if not self.at.ended:
            tensors |= {f"best/{name}": value for name, value in self.best.items()}
            for which, optimizer in enumerate(self.task.optimizers):
                for number, state in optimizer.state_dict()["state"].items():
                    for name, value in state.items():
                        (tensors if isinstance(value, Tensor) else other)[f"optimizer/{which}/{number}/{name}"] = value
        rng = [self.epoch_began, self.task.rng.bit_generator.state]
        self.session.checkpoint.save(tensors, {"progress": asdict(self.at), "rng": rng, "optimizer": other})
        self.saved = time.monotonic()
        self.saving = self.saved - began

    def _resume(self) -> _Progress:
        """Take up what was saved, if anything was, and say so."""
        checkpoint = self.session.checkpoint
        if checkpoint is None or (found := checkpoint.load()) is None:
            return self.at
        tensors, about = found
        parts: dict[str, dict[str, Any]] = {"network": {}, "generator": {}, "best": {}, "optimizer": {}}
        for path, value in (tensors | about["optimizer"]).items():
            part, _, name = path.partition("/")
            parts[part][name] = value
        self.task.network.load_state_dict(parts["network"])
        self._set_generators(parts["generator"])
        self.best = parts["best"]
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.task.optimizers]
        for path, value in parts["optimizer"].items():
            which, number, name = path.split("/")
            states[int(which)].setdefault(int(number), {})[name] = value
        for optimizer, state in zip(self.task.optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.epoch_began, self.task.rng.bit_generator.state = about["rng"]
        self.at = at = _Progress(**about["progress"])
        self._write()
        where = "was trained to its end" if at.ended else f"goes on from epoch {at.epochs + 1}, batch {at.batches + 1}"
        print(f"{self.task.name} {where}, as {checkpoint.path} has it", file=sys.stderr)
        return at

    def _generators(self) -> Tensors:
        """The states of torch's."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _set_generators(self, states: Tensors) -> None:
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.device)
