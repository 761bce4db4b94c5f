"""`edgevl app`: what apps on other platforms need."""

from pathlib import Path
from typing import Annotated

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, Json, command, command_group
from edgevl.cli.progress import progress_bar


def add_to(app: typer.Typer) -> None:
    group = command_group(app, "app", "What apps on other platforms need.")
    command(group, "web", example="edgevl app web --bundle nano-litert-w8a8.edgevl --out app --serve")(web)
    command(group, "android", example="edgevl app android --bundle nano-onnx-fp32-split.edgevl --out android")(android)
    command(group, "ios", example="edgevl app ios --bundle nano-coreml-fp16.edgevl --out project")(ios)
    command(group, "conformance", example="edgevl app conformance --out conformance --only small")(conformance)


def web(
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle for onnx or litert. Default: the embedded model, exported for onnx.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("edgevl-web"),
    serve: Annotated[bool, typer.Option("--serve", help="Serve the folder on this machine until Ctrl-C.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="In a checkout: build the app first, with npm of Node 20.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To serve on; 0 takes a free one.")] = 8700,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a web app with a bundle in place, which any web server can serve; it works offline after the first load."""
    from edgevl.app.web import build_site, server_of, write_web_app

    server = server_of(out, port) if serve else None  # first: a port that is taken costs no export
    with progress_bar("web") as progress:
        if build:
            build_site(progress)
        folder = write_web_app(out, bundle, force, progress)
    address = f"http://localhost:{server.server_port}/" if server else None
    if json:
        console.print_json({"folder": str(folder), "address": address})
    else:
        console.result(f"wrote {folder}" + (f"; open {address}, end with Ctrl-C" if address else ""))
    if server:
        server.serve_forever()


def android(
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle for onnx. Default: the embedded model, in two programs.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("edgevl-android"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Write an Android project with a bundle in place: Gradle builds the app, Maven tests it on a JVM."""
    from edgevl.app.android import write_android_project

    with progress_bar("android") as progress:
        folder = write_android_project(out, bundle, force, progress)
    if json:
        console.print_json({"folder": str(folder)})
    else:
        console.result(f"wrote {folder}; open it in Android Studio, or test it here: mvn -q -f {folder}/pom.xml test")


def ios(
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle for coreml. Default: the embedded model, exported for coreml.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("edgevl-ios"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a project for Xcode: the Swift package EdgeVLKit and an app with a bundle in place."""
    from edgevl.app.ios import write_ios_project

    with progress_bar("ios") as progress:
        folder = write_ios_project(out, bundle, force, progress)
    if json:
        console.print_json({"folder": str(folder)})
    else:
        console.result(f"wrote {folder}; open {folder / 'Sample.swiftpm'} in Xcode")


def conformance(
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("conformance"),
    only: Annotated[str | None, typer.Option(help='"small": without the embedded model.')] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write bundles, pictures and texts with what must come out of them, for readers in any language."""
    from edgevl.app.conformance import write_conformance

    with progress_bar("conformance") as progress:
        folder, counts = write_conformance(out, only, force, progress)
    if json:
        console.print_json({"folder": str(folder), "cases": counts})
        return
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    console.result(f"wrote {folder}: {said}")
