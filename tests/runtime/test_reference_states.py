"""States: kept between two predictions in a dictionary, as Core ML's MLState keeps them. Against torch's buffers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime import open_session
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram


class Decoder(torch.nn.Module):
    """One attention layer with a key-value cache, as Apple's examples write it: the mask says where the words are."""

    def __init__(self, length: int = 12, width: int = 8, heads: int = 2):
        super().__init__()
        self.heads, self.width = heads, width
        self.embed, self.qkv = torch.nn.Embedding(30, width), torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, 5)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, heads, length, width // heads))

    @torch.no_grad()
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        count, end = ids.shape[1], mask.shape[-1]
        parts = self.qkv(self.embed(ids)).chunk(3, -1)
        q, k, v = (part.view(1, count, self.heads, self.width // self.heads).transpose(1, 2) for part in parts)
        self.keys[:, :, end - count : end] = k  # pyright: ignore
        self.values[:, :, end - count : end] = v  # pyright: ignore
        keys, values = self.keys[:, :, :end], self.values[:, :, :end]  # pyright: ignore
        attended = torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return self.out(attended.transpose(1, 2).reshape(1, count, self.width))


def causal(count: int, end: int) -> torch.Tensor:
    """A mask for `count` words that end at `end`."""
    return torch.full((1, 1, count, end), -1e4).triu(end - count + 1)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> tuple[Path, Decoder]:
    torch.manual_seed(2)
    module, ct = Decoder().eval(), coremltools()
    traced = torch.jit.trace(module, (torch.zeros(1, 2, dtype=torch.int32), causal(2, 5)), check_trace=False)
    count, end = ct.RangeDim(1, 12, 1), ct.RangeDim(1, 12, 1)
    shape, path = (1, 2, 12, 4), tmp_path_factory.mktemp("decoder") / "decoder.mlpackage"
    with quiet_coremltools():
        ct.convert(
            traced,
            inputs=[
                ct.TensorType(name="ids", shape=(1, count), dtype=np.int32),
                ct.TensorType(name="mask", shape=(1, 1, count, end), dtype=np.float16),
            ],
            outputs=[ct.TensorType(name="logits", dtype=np.float16)],
            states=[ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=n) for n in ("keys", "values")],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(str(path))
    return path, module


@pytest.mark.parametrize("precision", ["fp16", "fp32", "strict_fp16"])
def test_a_key_value_cache_decodes_as_torch_does(decoder: tuple[Path, Decoder], precision: str) -> None:
    """A prompt of three words, then one word at a time: begins are computed, and every shape changes each time."""
    path, module = decoder
    program, tolerance = MLProgram.load(path, precision), 2e-3 if precision == "fp32" else 2e-2
    module.keys.zero_(), module.values.zero_()  # pyright: ignore
    state, words, end = program.make_state(), [3, 7, 1, 20, 4, 4, 29], 0
    assert set(state) == {"keys", "values"}
    for chunk in (words[:3], *([word] for word in words[3:])):
        end += len(chunk)
        ids, mask = torch.tensor([chunk], dtype=torch.int32), causal(len(chunk), end)
        got = program.predict({"ids": ids, "mask": mask.half()}, state)["logits"]
        expected = module(ids, mask).numpy()
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(state["keys"], module.keys.numpy(), rtol=tolerance, atol=tolerance)  # pyright: ignore
    assert state["keys"].dtype == (np.float32 if precision == "fp32" else np.float16)


def test_a_state_is_the_callers(decoder: tuple[Path, Decoder]) -> None:
    """Two conversations do not disturb each other; the same state gives the same result; diagnosis changes none."""
    program = MLProgram.load(decoder[0])
    feeds = {"ids": np.array([[3]], np.int32), "mask": np.zeros((1, 1, 1, 2), np.float16)}
    first, second = program.make_state(), program.make_state()
    second["keys"] = second["keys"] + np.float16(1)
    kept = {name: array.copy() for name, array in second.items()}
    a = program.predict(feeds, first)["logits"]
    assert program.find_fault(feeds, state=second) is None
    np.testing.assert_array_equal(second["keys"], kept["keys"])
    b = program.predict(feeds, second)["logits"]
    np.testing.assert_array_equal(a, program.predict(feeds, program.make_state())["logits"])
    np.testing.assert_array_equal(b, program.predict(feeds, kept)["logits"])
    assert np.abs(a - b).max() > 1e-3


def test_wrong_states_say_what_is_expected(decoder: tuple[Path, Decoder]) -> None:
    program = MLProgram.load(decoder[0])
    feeds = {"ids": np.array([[3]], np.int32), "mask": np.zeros((1, 1, 1, 2), np.float16)}
    good = program.make_state()
    with pytest.raises(InputError, match=r"keeps states \(keys float16 \[1, 2, 12, 4\].*make_state"):
        program.predict(feeds)
    for state, problem in (
        ({"keys": good["keys"]}, 'state "values" is missing'),
        ({**good, "other": good["keys"]}, 'unknown state "other"'),
        ({**good, "keys": good["keys"][:, :1]}, r'state "keys" has shape \[1, 1, 12, 4\]'),
        ({**good, "keys": good["keys"].astype(np.float64)}, 'state "keys" has dtype float64'),
    ):
        with pytest.raises(InputError, match=problem):
            program.predict(feeds, state)


def test_a_session_keeps_no_state(decoder: tuple[Path, Decoder]) -> None:
    with pytest.raises(InputError, match='"keys" is a state, which a session does not have'):
        open_session(decoder[0], "coreml")


class Accumulator(torch.nn.Module):
    """Reads, writes, reads and writes again in one run."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)  # pyright: ignore
        doubled = self.total * 2  # pyright: ignore
        self.total.mul_(0.5)  # pyright: ignore
        return doubled + self.total  # pyright: ignore


@pytest.mark.parametrize("frontend", ["trace", "export"])
def test_reads_and_writes_keep_their_order(tmp_path: Path, frontend: str) -> None:
    module, ct = Accumulator().eval(), coremltools()
    inputs = states = None
    if frontend == "trace":
        source = torch.jit.trace(Accumulator().eval(), torch.ones(2, 3), check_trace=False)
        inputs = [ct.TensorType(name="x", shape=(2, 3), dtype=np.float16)]
        states = [ct.StateType(ct.TensorType(shape=(2, 3), dtype=np.float16), name="total")]
    else:
        source = torch.export.export(Accumulator().eval(), (torch.ones(2, 3),)).run_decompositions({})
    with quiet_coremltools():
        ct.convert(
            source,
            inputs=inputs,
            states=states,
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(str(tmp_path / "sum.mlpackage"))
    program = MLProgram.load(tmp_path / "sum.mlpackage")
    state, (spec,) = program.make_state(), program.inputs
    for step in range(4):
        x = torch.full((2, 3), 0.25 * (step + 1))
        (got,) = program.predict({spec.name: x.numpy().astype(spec.dtype)}, state).values()
        np.testing.assert_allclose(got, module(x).numpy(), rtol=2e-3)
    np.testing.assert_allclose(state["total"], module.total.numpy(), rtol=2e-3)  # pyright: ignore
    assert {"read_state", "coreml_update_state"} <= set(program.op_types)


def test_a_stateless_program_takes_an_empty_state(tmp_path: Path) -> None:
    """As Core ML's does, so that a caller need not know which kind it has."""
    save_mil(tmp_path / "plain.mlpackage", lambda mb, x: mb.relu(x=x), {"x": np.ones(2, np.float32)})
    program = MLProgram.load(tmp_path / "plain.mlpackage")
    assert program.make_state() == {} and program.states == ()
    assert next(iter(program.predict({"x": np.ones(2, np.float32)}, {}).values())).tolist() == [1, 1]
    with pytest.raises(InputError, match='unknown state "x"'):
        program.predict({"x": np.ones(2, np.float32)}, {"x": np.ones(2, np.float32)})
