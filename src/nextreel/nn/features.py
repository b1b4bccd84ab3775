"""Tokens, videos and requests as vectors: what every network begins and ends with."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextreel.cases.store import Sets
from nextreel.nn import inputs
from nextreel.nn.batch import Requests
from nextreel.nn.vocabulary import FIRST, START, UNKNOWN, Uploads, Vocabulary, n_rows

_VALUES = 8  # of a set, the first ones are read
OWN = 0.05  # length of what is a video's or a user's own at the start, beside what else is known
_NEVER = -8.0  # the worth of an age before the upload at the start, in logits


def embedding(n: int, width: int, sparse: bool = False) -> nn.Embedding:
    """A table [n, D] of vectors of length about 1; a deviation of 0.02, as is common, takes twice the epochs to leave
    popularity. sparse: so are its gradients."""
    table = nn.Embedding(n, width, sparse=sparse)
    nn.init.normal_(table.weight, std=width**-0.5)
    return table


class Content(nn.Module):
    """The mean of the vectors of a video's values in one column; zeros where it has none."""

    rows: Tensor

    def __init__(self, sets: Sets, width: int, sparse: bool) -> None:
        super().__init__()
        place = np.arange(len(sets.values)) - np.repeat(sets.offsets[:-1], np.diff(sets.offsets))
        most = min(int(np.diff(sets.offsets).max(initial=0)), _VALUES)
        video = np.repeat(np.arange(len(sets)), np.diff(sets.offsets))
        rows = np.zeros((len(sets), max(most, 1)), np.int32)  # 0: none
        read = place < most
        rows[video[read], place[read]] = 1 + sets.values[read]
        self.register_buffer("rows", torch.from_numpy(rows), persistent=False)
        self.table = embedding(1 + n_rows(sets), width, sparse)

    def forward(self, video: Tensor) -> Tensor:
        """video [...] -> [..., D]."""
        rows = self.rows[video.flatten()]
        mean = F.embedding_bag(rows, self.table.weight, mode="mean", padding_idx=0, sparse=self.table.sparse)
        return mean.unflatten(0, video.shape) if video.dim() != 1 else mean


class Ages(nn.Module):
    """What an age at the request is worth, learnt by bucket: a column for each cell of uploads."""

    cell: Tensor

    def __init__(self, uploads: Uploads) -> None:
        super().__init__()
        self.day = uploads.day
        self.register_buffer("cell", torch.from_numpy(uploads.cell.astype(np.int64)), persistent=False)
        self.worth = nn.Embedding(1 + inputs.SIZES[inputs.AGE], 1)  # unknown, then the buckets
        nn.init.zeros_(self.worth.weight)
        with torch.no_grad():
            self.worth.weight[1] = _NEVER

    def of_requests(self, time_ms: np.ndarray) -> Tensor:
        """The worth of each cell at these times: [M, n_cells]."""
        days, which = np.unique(inputs.day(time_ms), return_inverse=True)
        bucket = inputs.age_of(days[:, None] - self.day)
        device = self.worth.weight.device
        worth = self.worth(torch.from_numpy(bucket.astype(np.int64) + 1).to(device)).squeeze(-1)
        return F.embedding(torch.from_numpy(which).to(device), worth)

    def of_videos(self, video: Tensor) -> Tensor:
        """Which cell each video is in: [..., n_cells] of 0 and 1."""
        return F.one_hot(self.cell[video], len(self.day)).to(self.worth.weight.dtype)


class Items(nn.Module):
    """Videos as vectors. At the input, a row of ids and content [D]. At the output these, in a table of ids of their
    own if they are not tied, beside a bias and an age [D']: a score is one product query [D'] . vector [D']."""

    row: Tensor
    known: Tensor
    place: Tensor  # of each video among the known, -1 outside

    def __init__(
        self, vocabulary: Vocabulary, width: int, *, bias: bool, tied: bool, dropout: float,
        temperature: float | None, sparse: bool,
    ) -> None:  # fmt: skip
        """dropout: share of id rows that are zeroed in training, so that a video without one scores by its content.
        temperature: scores are cosines / temperature, beside bias and age; None: products.
        sparse: gradients of `tables`."""
        super().__init__()
        self.width, self.dropout, self.temperature = width, dropout, temperature
        n = 1 + int(vocabulary.row.max(initial=START))
        # Where content and bias say most of a video, what is its own is learnt from little.
        spread = OWN if vocabulary.content or bias else 1.0
        self.ids = ids(n, width, spread, sparse)
        self.untied = None if tied else ids(n, width, spread, sparse)
        # Of being shown, and of being a positive, where one is asked for.
        self.bias = nn.Embedding(n, 2, UNKNOWN, sparse=sparse) if bias else None
        if self.bias is not None:
            nn.init.zeros_(self.bias.weight)
        self.content = nn.ModuleDict({name: Content(sets, width, sparse) for name, sets in vocabulary.content.items()})
        self.ages = Ages(vocabulary.uploads) if vocabulary.uploads is not None else None
        self.register_buffer("row", torch.from_numpy(vocabulary.row.astype(np.int64)), persistent=False)
        self.register_buffer("known", torch.from_numpy(vocabulary.known.astype(np.int64)), persistent=False)
        self.register_buffer("place", torch.from_numpy(vocabulary.index), persistent=False)
        own = torch.arange(FIRST, FIRST + len(vocabulary.known))
        self.in_order = bool(torch.equal(self.row[self.known], own))

    def __len__(self) -> int:
        return len(self.known)

    @torch.no_grad()
    def start_bias(self, log_rates: np.ndarray) -> None:
        """Of known videos [V, 2]: what training moves the bias on from, see `vocabulary.Counts`."""
        if self.bias is not None:
            row, table = self.row[self.known], self.bias.weight
            table.zero_().index_add_(0, row, torch.from_numpy(log_rates).to(table))
            table.div_(row.bincount(minlength=len(table)).clamp_(min=1)[:, None])  # the mean of those who share
            table[UNKNOWN].zero_()

    @property
    def tables(self) -> list[Tensor]:
        """Those that grow with the catalogue: of ids, bias and content."""
        found = [table.weight for table in (self.ids, self.untied, self.bias) if table is not None]
        return found + list(self.content.parameters())

    def at_input(self, video: Tensor) -> Tensor:
        """video [...] -> [..., D]."""
        row = self.row[video]
        return self._filled(self.ids(row), video, self._kept(row.shape, self.dropout))

    def vectors(self, index: Tensor | None) -> Tensor:
        """The vectors of known videos, by their place among these [...] -> [..., D']; None: of all."""
        return self.of_videos(self.known if index is None else self.known[index], every=index is None)

    def of_videos(self, video: Tensor, every: bool = False, dropout: float | None = None) -> Tensor:
        """video [...] -> [..., D']. every: these are all known ones in order. dropout: in place of its own."""
        row = self.row[video]
        kept = self._kept(row.shape, self.dropout if dropout is None else dropout)
        # A slice of a table is a view: no gradient by index.
        view = slice(FIRST, FIRST + len(self)) if every and self.in_order else None

        def take(table: nn.Embedding) -> Tensor:
            return table.weight[view] if view is not None else table(row)

        vector = self._filled(take(self.untied or self.ids), video, kept)
        if self.temperature is not None:
            vector = F.normalize(vector, dim=-1)
        columns = [vector]
        if self.bias is not None:
            bias = take(self.bias)
            columns.append(bias if kept is None else bias * kept)
        if self.ages is not None:
            columns.append(self.ages.of_videos(video))
        return torch.cat(columns, -1) if len(columns) > 1 else vector

    def queries(self, state: Tensor, requests: Requests) -> Tensor:
        """States [M, D] at requests -> [M, D']."""
        if self.temperature is not None:
            state = F.normalize(state, dim=-1) / self.temperature
        columns = [state]
        if self.bias is not None:
            columns.append(torch.stack([torch.ones_like(requests.liked), requests.liked], -1).to(state.dtype))
        if self.ages is not None:
            columns.append(self.ages.of_requests(requests.time_ms))
        return torch.cat(columns, -1) if len(columns) > 1 else state

    def _kept(self, shape: torch.Size, dropout: float) -> Tensor | None:
        """Which id rows are not zeroed: [..., 1] of 0 and 1; None: all are kept."""
        if not (self.training and dropout):
            return None
        table = self.ids.weight
        return (torch.rand(*shape, 1, device=table.device) >= dropout).to(table.dtype)

    def _filled(self, vector: Tensor, video: Tensor, kept: Tensor | None) -> Tensor:
        """The vectors of ids [..., D], those that are kept, with the content of the videos."""
        vector = vector if kept is None else vector * kept
        for content in self.content.values():
            vector = vector + content(video)
        return vector


def ids(n: int, width: int, spread: float, sparse: bool = False) -> nn.Embedding:
    """A table [n, D] of which the row UNKNOWN stays 0. spread: length of the vectors at the start, about."""
    table = embedding(n, width, sparse)
    table.padding_idx = UNKNOWN
    with torch.no_grad():
        table.weight.mul_(spread)
        table.weight[UNKNOWN].zero_()
    return table


class RequestHead(nn.Module):
    """Adds to a state what the request says: a layer over the state, the request's values and the profile."""

    def __init__(self, sizes: Mapping[str, int], n_profile: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: embedding(1 + n_known, width) for name, n_known in sizes.items()})
        self.scale = width**0.5  # to the size of a normed state
        self.profile = nn.Linear(n_profile, width) if n_profile else None
        self.liked = nn.Parameter(torch.zeros(width))
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, state: Tensor, requests: Requests) -> Tensor:
        """[M, D] -> [M, D]."""
        x = state + requests.liked.to(state.dtype)[:, None] * self.liked
        for name, table in self.tables.items():
            x = x + table(requests.columns[name]) * self.scale
        if self.profile is not None:
            assert requests.profile is not None
            x = x + self.profile(requests.profile.to(x.dtype))
        return state + self.mix(x)
