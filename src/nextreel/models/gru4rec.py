"""GRU4Rec: a recurrent network over a user's events (Hidasi et al., ICLR 2016), with the batches and losses of SASRec.

Its published weakness is its losses, not its network: with the full softmax it is a strong baseline (Hidasi & Czapp,
RecSys 2023).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from nextreel.nn import recommender
from nextreel.nn.batch import Batch
from nextreel.nn.dropout import Dropout
from nextreel.nn.features import TokenEmbedding
from nextreel.nn.padding import Rectangle
from nextreel.params import PositiveInt


class Params(recommender.NeuralParams):
    layers: PositiveInt


class Network(nn.Module):
    """Tokens -> states."""

    def __init__(self, n_rows: int, inputs: Mapping[str, int], params: Params) -> None:
        super().__init__()
        self.tokens = TokenEmbedding(n_rows, inputs, params.width)
        self.dropout = Dropout(params.dropout)
        self.gru = nn.GRU(params.width, params.width, params.layers, batch_first=True)
        self.norm = nn.LayerNorm(params.width)

    def forward(self, batch: Batch) -> Tensor:
        rectangle = Rectangle.of(batch)
        states, _last = self.gru(rectangle.pad(self.dropout(self.tokens(batch))))  # [B, L, D]
        return self.norm(self.dropout(rectangle.unpad(states)))  # [T, D]


class Model(recommender.Recommender):
    Network = Network
    Params = Params
