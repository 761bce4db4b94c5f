"""What is captured of any model gives what the model gives, by the names that its programs declare."""

import numpy as np
import pytest
import torch

from edgevl.app.conformance.small_models import MODELS, query_for
from edgevl.decodings import decoding_of
from edgevl.decodings.runner import Runner
from edgevl.errors import InputError
from edgevl.models.capture import capture, name_outputs, picture_names, program_inputs, program_outputs
from edgevl.runtime.eager_session import eager_runner


class CapturedSession:
    """A captured program as a session: what a target's runtime does with its artifact."""

    def __init__(self, program):
        self.program, self.module = program, program.module()
        self.inputs, self.outputs = program_inputs(program), program_outputs(program)

    def run(self, feeds):
        found = self.module(*(torch.from_numpy(feeds[spec.name]) for spec in self.inputs))
        found = found if isinstance(found, tuple) else (found,)
        return {spec.name: tensor.detach().numpy() for spec, tensor in zip(self.outputs, found)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_program_of_every_kind_of_model(name, batch):
    model = MODELS[name]()
    decoding, query = decoding_of(model), query_for(model)
    reference = decoding.run(eager_runner(model), [query])[0]
    for layout in model.layouts:
        programs = model.programs(layout)
        sessions = {program.name: CapturedSession(capture(program, "raw", batch)) for program in programs}
        for program in programs:
            found = sessions[program.name]
            assert [spec.name for spec in found.inputs] == [spec.name for spec in program.inputs]
            assert [spec.name for spec in found.outputs] == [spec.name for spec in program.outputs]
            assert all(spec.shape[0] == batch for spec in (*found.inputs, *found.outputs))
        specs = [program.spec for program in programs]
        runner = Runner(specs, sessions, model.images, model.texts, {each.name: batch for each in specs})
        own = decoding.run(runner, [query], along=[reference])[0]
        for value, array in reference.values.items():
            np.testing.assert_allclose(own.values[value], array, atol=1e-4)


def test_pictures_are_known_by_their_source_and_not_by_a_name():
    (program,) = MODELS["statement"]().programs("single")
    assert picture_names(program) == ("image_0", "image_1")


def test_outputs_of_another_number_are_refused():
    exported = capture(MODELS["captioner"]().programs("split")[1])
    with pytest.raises(InputError, match="has 3 outputs, 1 are declared: logits"):
        name_outputs(exported, ["logits"])


def test_an_output_may_have_the_name_of_a_value_inside():
    """`torch.export` names values after operators: a model may well call its output "linear"."""

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.second(self.first(x).relu())

    x = torch.randn(1, 3)
    program = name_outputs(torch.export.export(Two().eval(), (x,)), ["linear"])
    assert program.graph_signature.user_outputs == ("linear",)
    torch.testing.assert_close(program.module()(x), program.run_decompositions().module()(x))
