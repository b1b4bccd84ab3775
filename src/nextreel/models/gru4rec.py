"""GRU4Rec: a recurrent network over a user's events (Hidasi et al., ICLR 2016), with the batches and losses of SASRec.

Its published weakness is its losses, not its network: with the full softmax it is a strong baseline (Hidasi & Czapp,
RecSys 2023).
"""

from torch import Tensor, nn

from nextreel.nn import recommender
from nextreel.nn.batch import Batch
from nextreel.nn.dropout import Dropout
from nextreel.nn.padding import Rectangle
from nextreel.params import PositiveInt


class Params(recommender.NeuralParams):
    layers: PositiveInt


class Encoder(nn.Module):
    """Tokens -> states."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.dropout = Dropout(params.dropout)
        self.gru = nn.GRU(params.width, params.width, params.layers, batch_first=True)
        self.norm = nn.LayerNorm(params.width)

    def forward(self, tokens: Tensor, batch: Batch) -> Tensor:
        rectangle = Rectangle.of(batch)
        states, _last = self.gru(rectangle.pad(self.dropout(tokens)))  # [B, L, D]
        return self.norm(self.dropout(rectangle.unpad(states)))  # [T, D]


class Model(recommender.Recommender):
    Encoder = Encoder
    Params = Params
