"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018)."""

from nextreel.nn import recommender, self_attention


class Params(self_attention.Params):
    pass


class Model(recommender.Recommender):
    Encoder = self_attention.Encoder
    Params = Params
