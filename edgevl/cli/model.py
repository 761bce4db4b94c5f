"""`edgevl export`, `verify`, `inspect`, `predict`: from a model to a proved bundle, and an answer from it."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgevl.cli import console, show
from edgevl.cli.command import Force, Json, command, model_argument, names
from edgevl.cli.limited import SECONDS, MaxMemory, MaxSeconds, in_child
from edgevl.cli.progress import progress_bar
from edgevl.embedded import EMBEDDED_MODELS, model_folder
from edgevl.errors import InputError, VerificationFailed

Bundle = Annotated[Path, typer.Argument(help="A bundle: a folder NAME-TARGET-PRECISION.edgevl.", metavar="BUNDLE")]


def add_to(app: typer.Typer) -> None:
    command(app, "export", example="edgevl export --target coreml")(export)
    command(app, "verify", example="edgevl verify nano-onnx-fp32.edgevl --samples 1000")(verify)
    command(app, "inspect", example="edgevl inspect nano-coreml-fp16.edgevl")(inspect)
    command(app, "predict", example='edgevl predict nano-onnx-fp32.edgevl sample "what color is the car?"')(predict)


def export(
    model: Annotated[str | None, typer.Argument(help="A model folder. Default: the embedded nano.")] = None,
    target: Annotated[
        str, typer.Option(help="Where it will run: onnx, coreml, tensorrt, executorch, litert; experimental: coreai.")
    ] = "onnx",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, w8, w4 or w8a8, as the target offers. Default: what suits it best.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="How to cut it into programs; default: the model's first way. One that answers questions: single, or "
            "split: a vision encoder and a fusion head, to ask a picture many questions."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples of one run, fixed in the artifact.")] = 1,
    deployment_target: Annotated[
        str | None,
        typer.Option(help="coreml: the oldest system that must run it, iOS15 to iOS18. Default: 16; w8a8: 17; w4: 18."),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(help="coreml w4: blocks (int4, a scale for 32 weights) or palette (16 values; also for iOS16)."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(help="onnx w8a8: the processor that the file is for, x86 or arm. Default: x86.")
    ] = None,
    delegate: Annotated[str | None, typer.Option(help="executorch: xnnpack or coreml. Default: xnnpack.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: an option of a target of another package; may be repeated.")
    ] = None,
    decode: Annotated[
        Literal["whole", "scaled"],
        typer.Option(help="scaled: a JPEG may be decoded at 1/2, 1/4 or 1/8, which is faster and gives other pixels."),
    ] = "whole",
    license: Annotated[
        str | None, typer.Option(help='Of the weights, for the manifest, such as MIT. Default: "not stated" if yours.')
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="What golden cases are from, e.g. data:test. Default: what it was validated on, or Scenes."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Bundle to write. Default: named after the model, target and precision.")
    ] = None,
    force: Force = False,
) -> None:
    """Export a model to a bundle that an app can ship."""
    from edgevl.bundle_export import export_bundle

    folder = model_argument(model)
    options = {"deployment_target": deployment_target, "scheme": scheme, "dialect": dialect, "delegate": delegate}
    options |= _named(option or [])
    with progress_bar("export") as progress:
        bundle = export_bundle(
            folder, target, precision, out, force, progress, layout=layout, batch=batch, options=options,
            license=license, scaled=decode == "scaled", data=data, note=console.note,
        )  # fmt: skip
    console.result(str(bundle))
    console.next_commands(_verify(bundle, folder), ["edgevl", "inspect", bundle])


def _verify(bundle: Path, folder: Path | None) -> list[str | Path]:
    """Return the command that verifies a bundle against its model, on the data that this is judged on."""
    from edgevl.data.own import USUAL, judged_on

    try:
        data = judged_on(folder)
    except InputError:  # it is not here: verify says what to do
        data = USUAL
    own = ["--checkpoint", folder] if folder is not None and folder not in EMBEDDED_MODELS.values() else []
    return ["edgevl", "verify", bundle, *own, *(["--data", data] if data != USUAL else [])]


def _named(options: list[str]) -> dict[str, str]:
    """Read NAME=VALUE. Raises `InputError` for anything else."""
    for option in options:
        if "=" not in option.strip("="):
            raise InputError(f'--option "{option}" is not NAME=VALUE')
    return {name.replace("-", "_"): value for name, _, value in (option.partition("=") for option in options)}


def verify(
    bundle: Bundle,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Samples to run through the artifact. Default: 1000, or all where the data has fewer."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data to judge on, e.g. scenes:test_style. Default: the model's own."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The model folder it was made from. Default: the embedded one, or beside the bundle."),
    ] = None,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Run the artifact and prove it: parity, accuracy, what is inside, digests, golden cases. Exit code 4 if not."""
    in_child(max_seconds, max_memory)
    from edgevl.bench.run import why_not_timed
    from edgevl.verify.run import verify_bundle

    with progress_bar("verify") as progress:
        reference = checkpoint and model_folder(str(checkpoint))
        report = verify_bundle(bundle, samples, data, progress, checkpoint=reference)
    data_out = report.model_dump(mode="json")
    console.print_json(data_out) if json else show.verify(data_out)
    if not report.ok:
        raise VerificationFailed(f"{bundle} is not what it claims: {'; '.join(report.audit.problems)}")
    ask = ["edgevl", "predict", bundle, "sample", *_examples(bundle)]
    console.next_commands(["edgevl", "inspect" if why_not_timed(report.target) else "bench", bundle], ask)


def _examples(bundle: Path) -> tuple[str, ...]:
    """What the bundle can be asked: texts of a golden case where they are answered together, none if it reads none."""
    from edgevl.bundle.card import example_texts
    from edgevl.bundle.folder import Bundle as Folder
    from edgevl.bundle.golden import read_golden

    texts = read_golden(Folder.open(bundle)).cases[0].texts
    return texts[:3] if len(texts) != 1 else tuple(example_texts(bundle))


def inspect(
    bundle: Bundle,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Show what a bundle holds: inputs, sizes, weight types, operators, and what was measured."""
    in_child(max_seconds, max_memory)
    from edgevl.verify.audit import inspect_bundle

    report = inspect_bundle(bundle)
    data = report.model_dump(mode="json")
    console.print_json(data) if json else show.inspect(data)
    console.next_commands(["edgevl", "verify", bundle])


def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle or a model folder, or `nano` for the embedded model.")],
    image: Annotated[Path, typer.Argument(help="A picture file, or `sample`: a scene that comes with edgevl.")],
    question: Annotated[
        list[str] | None,
        typer.Argument(
            help="A question, in quotes, or several. A model that finds pictures chooses from texts; some read none."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Instead of a question: names with commas between, the picture gets one of them."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers to list, at most: none at 0.0 %.")] = 5,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Answer a question, or several, about a picture."""
    in_child(max_seconds, max_memory)
    from edgevl.bundle.folder import is_bundle
    from edgevl.predict import Answerer

    if question and labels is not None:
        raise InputError("give either a question or --labels")
    answerer, question = Answerer.load(model_argument(bundle)), question or []
    predictions = (
        answerer.answer_all(image, question, top) if labels is None else [answerer.label(image, names(labels), top)]
    )
    for text in dict.fromkeys(text for prediction in predictions for text in prediction.notes):
        console.note(f"warning: {text}")
    data = [dataclasses.asdict(each) for each in predictions]
    if json:
        several = {"questions": [{"question": q, **d} for q, d in zip(question, data)]} if len(data) > 1 else {}
        console.print_json({**data[0], **several})
    else:
        for number, prediction in enumerate(predictions):
            if len(predictions) > 1:
                show.question(question[number], first=number == 0)
            trust = prediction.confidence, prediction.in_domain
            show.prediction(prediction.answer, prediction.scores, *trust, box=prediction.box)
    console.next_commands(["edgevl", "verify" if is_bundle(bundle) else "export", bundle])
