"""Strict half precision, last part: recurrent layers. Rules: `strict.py`."""

from .ops import rounded
from .recurrent import Arithmetic, build_gru, build_lstm, build_rnn
from .strict import STRICT, linear

_HALF = Arithmetic(linear, rounded)

STRICT.register("rnn")(lambda node: build_rnn(node, _HALF))
STRICT.register("gru")(lambda node: build_gru(node, _HALF))
STRICT.register("lstm")(lambda node: build_lstm(node, _HALF))
