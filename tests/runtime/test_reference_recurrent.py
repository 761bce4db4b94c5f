"""Recurrent layers against torch's, over directions, biases and what is returned."""

from typing import Any

import numpy as np
import pytest
import torch

STEPS, BATCH, INPUT, HIDDEN = 5, 2, 3, 4


def arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy().astype(np.float32) for tensor in tensors]


def reordered(weight: torch.Tensor, order: list[int]) -> np.ndarray:
    """Torch's gates in MIL's order."""
    return np.concatenate([weight.detach().numpy().reshape(len(order), HIDDEN, -1)[gate] for gate in order]).squeeze()


def parameters(layer: torch.nn.RNNBase) -> dict[str, torch.Tensor]:
    return dict(layer.named_parameters())


LSTM_ORDER, GRU_ORDER = [0, 1, 3, 2], [0, 2, 1]  # torch: i f z o and r z n; MIL: i f o z and r o z


def lstm_weights(layer: torch.nn.LSTM, suffix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    own = parameters(layer)
    bias = own[f"bias_ih_l0{suffix}"] + own[f"bias_hh_l0{suffix}"]
    parts = (own[f"weight_ih_l0{suffix}"], own[f"weight_hh_l0{suffix}"], bias)
    ih, hh, b = (reordered(part, LSTM_ORDER) for part in parts)
    return ih, hh, b


def start(directions: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((STEPS, BATCH, INPUT), (directions, BATCH, HIDDEN), (directions, BATCH, HIDDEN))
    x, h, c = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, h, c


def side_by_side(state: torch.Tensor) -> torch.Tensor:
    """[directions, B, H] to [B, directions * H]."""
    return torch.cat(list(state), -1)


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_is_torchs(run_mil, direction: str, every_step: bool) -> None:
    both = direction == "bidirectional"
    layer = torch.nn.LSTM(INPUT, HIDDEN, bidirectional=both)
    x, h, c = start(1 + both)
    ih, hh, bias = lstm_weights(layer)
    params: dict[str, Any] = {"weight_ih": ih, "weight_hh": hh, "bias": bias}
    if both:
        params.update(zip(("weight_ih_back", "weight_hh_back", "bias_back"), lstm_weights(layer, "_reverse")))

    def build(mb, x, h, c):
        return mb.lstm(x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=every_step, **params)

    inputs = dict(zip("xhc", arrays(x, side_by_side(h), side_by_side(c))))
    outputs, last_h, last_c = run_mil(build, inputs)
    sequence, (want_h, want_c) = layer(x.flip(0) if direction == "reverse" else x, (h, c))
    want = sequence if every_step else side_by_side(want_h)[None]
    for got, expected in zip((outputs, last_h, last_c), arrays(want, side_by_side(want_h), side_by_side(want_c))):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "scaled_tanh"])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_lstm_with_peepholes_is_as_in_coremltools_own_test(run_mil, clip: float | None, activation: str) -> None:
    """Numbers of two steps by the formulas of that test: the clip bounds the cell state, scaled_tanh scales nothing."""
    generator = np.random.default_rng(5)
    x, h, c, ih, hh, bias, peephole = (
        generator.uniform(-1, 1, shape).astype(np.float32)
        for shape in ((2, 1, 3), (1, 4), (1, 4), (16, 3), (16, 4), (16,), (12,))
    )
    params: dict[str, Any] = {"weight_ih": ih, "weight_hh": hh, "bias": bias, "peephole": peephole}
    params |= {} if clip is None else {"clip": np.float32(clip)}

    def build(mb, x, h, c):
        return mb.lstm(x=x, initial_h=h, initial_c=c, activation=activation, output_sequence=True, **params)

    outputs, _, last_c = run_mil(build, {"x": x, "h": h, "c": c})
    p_i, p_f, p_o = np.split(peephole, 3)
    for entry, got in zip(x, outputs):
        i, f, o, z = np.split(entry @ ih.T + h @ hh.T + bias, 4, axis=-1)
        c = sigmoid(f + c * p_f) * c + sigmoid(i + c * p_i) * np.tanh(z)
        c = c if clip is None else c.clip(-clip, clip)
        h = sigmoid(o + c * p_o) * np.tanh(c)
        np.testing.assert_allclose(got, h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last_c, c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru_with_reset_after_is_torchs(run_mil, direction: str) -> None:
    layer = torch.nn.GRU(INPUT, HIDDEN)
    x, h, _ = start()
    own = parameters(layer)
    params = {
        "weight_ih": reordered(own["weight_ih_l0"], GRU_ORDER),
        "weight_hh": reordered(own["weight_hh_l0"], GRU_ORDER),
        "bias": reordered(own["bias_hh_l0"], GRU_ORDER),
        "input_bias": reordered(own["bias_ih_l0"], GRU_ORDER),
    }

    def build(mb, x, h):
        return mb.gru(x=x, initial_h=h, direction=direction, output_sequence=True, reset_after=True, **params)

    got = run_mil(build, dict(zip("xh", arrays(x, h[0]))), target="iOS18")
    sequence, last = layer(x.flip(0) if direction == "reverse" else x, h)
    for one, expected in zip(got, arrays(sequence, last[0])):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_gru_resets_the_state_before_its_product(run_mil) -> None:
    """The default, which torch does not have: o = tanh(W x + W_h (r * h) + b). One step, by hand."""
    generator = np.random.default_rng(9)
    ih, hh = generator.standard_normal((9, 2)).astype(np.float32), generator.standard_normal((9, 3)).astype(np.float32)
    bias = generator.standard_normal(9).astype(np.float32)
    x, h = generator.standard_normal((1, 1, 2)).astype(np.float32), generator.standard_normal((1, 3)).astype(np.float32)
    outputs, last = run_mil(
        lambda mb, x, h: mb.gru(x=x, initial_h=h, weight_ih=ih, weight_hh=hh, bias=bias), {"x": x, "h": h}
    )

    reset = sigmoid(ih[:3] @ x[0, 0] + hh[:3] @ h[0] + bias[:3])
    update = sigmoid(ih[6:] @ x[0, 0] + hh[6:] @ h[0] + bias[6:])
    out = np.tanh(ih[3:6] @ x[0, 0] + hh[3:6] @ (reset * h[0]) + bias[3:6])
    expected = (1 - update) * out + update * h[0]
    np.testing.assert_allclose(last[0], expected, rtol=1e-5)
    np.testing.assert_allclose(outputs[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_rnn_is_torchs(run_mil, kind: str) -> None:
    layer = torch.nn.RNN(INPUT, HIDDEN, nonlinearity=kind)
    x, h, _ = start()
    own = parameters(layer)
    ih, hh, bias = arrays(own["weight_ih_l0"], own["weight_hh_l0"], own["bias_ih_l0"] + own["bias_hh_l0"])

    def build(mb, x, h):
        return mb.rnn(x=x, initial_h=h, weight_ih=ih, weight_hh=hh, bias=bias, output_sequence=True, activation=kind)

    got = run_mil(build, dict(zip("xh", arrays(x, h[0]))))
    sequence, last = layer(x, h)
    for one, expected in zip(got, arrays(sequence, last[0])):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
