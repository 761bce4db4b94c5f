"""Reports as text for a terminal. Each function takes the plain data that `--json` prints."""

import re
import textwrap
from typing import Any

from edgevl.cli import console
from edgevl.cli.show_audit import audit_lines, hazard_lines, hazard_summary, size
from edgevl.plain import plain

Data = dict[str, Any]


def verify(data: Data) -> None:
    verdict = ("verified", "bold green") if data["ok"] else ("FAILED", "bold red")
    console.result((data["bundle"], "bold"), f"  {data['target']} {data['precision']}  ", verdict)
    lines = {
        "runtime": data["runtime"],
        "parity": _parity(data["parity"]),
        **_accuracy(data["accuracy"]),
        "golden": _golden(data["golden"]),
    }
    if built := (data["parity"] or {}).get("tensorrt"):
        lines["tensorrt"] = "; ".join(_build(program) for program in built["programs"])
    if data["audit"]["weight_bytes"]:  # else it could not be read, and a problem says why
        lines |= audit_lines(data["audit"]) | {"hazards": hazard_summary(data["audit"])}
    _lines(lines)
    kinds = (data["accuracy"] or {}).get("per_kind") or {}
    if kinds.keys() - {"all"}:
        rows = [
            [kind, _percent(k["artifact"]), _percent(k["reference"]), str(k["samples"])] for kind, k in kinds.items()
        ]
        console.result("")
        console.table("Accuracy by kind of question", ["kind", "artifact", "PyTorch", "samples"], rows)
    _problems(data["audit"]["problems"])
    for text in data["notes"]:
        console.result(f"note  {text}")


def inspect(data: Data) -> None:
    console.result((data["bundle"], "bold"), f"  {data['name']}, {data['task']}, {data['license']}")
    lines = {
        "target": f"{data['target']} {data['precision']}",
        "size": f"{size(data['bytes'])} in {len(data['files'])} files",
        "inputs": ", ".join(_tensor(spec) for spec in data["inputs"]),
        "outputs": ", ".join(_tensor(spec) for spec in data["outputs"]),
        **audit_lines(data["audit"]),
        "operators": ", ".join(f"{name} {count}" for name, count in _by_count(data["op_types"])[:12]),
        "checkpoint": data["checkpoint"],
        "versions": ", ".join(f"{name} {version}" for name, version in data["versions"].items()),
        "parity": _parity(data["parity"]),
        **_accuracy(data["accuracy"]),
    }
    _lines(lines)
    rows = [[w["name"], w["dtype"], "x".join(map(str, w["shape"])), f"{w['bytes']:,}"] for w in data["largest"]]
    console.result("")
    console.table("Largest weights", ["name", "type", "shape", "bytes"], rows)
    _hazards(data["audit"])
    _problems(data["problems"])


def _problems(problems: list[str]) -> None:
    for problem in problems:
        console.result(("problem", "red"), f"  {problem}")


def _hazards(audit: Data) -> None:
    lines = hazard_lines(audit)
    if not lines:
        return
    console.result("")
    console.result(("What an accelerator may refuse, or nothing needs", "bold"), " (warnings)")
    width = max(len(kind) for kind, _ in lines) + 2
    for kind, text in lines:
        _line(kind, text, width)


def doctor(data: Data) -> None:
    machine = data["machine"]
    console.result(f"EdgeVL {data['edgevl']}, Python {machine['python']}, {machine['os']}")
    memory = f"{machine['memory_gb']:.1f} GiB of memory, accelerator: {machine['accelerator'] or 'none'}"
    console.result(f"{machine['cpu']}, {machine['cores']} cores, {memory}")
    console.result("")
    if jetson := machine["jetson"]:
        versions = f"L4T {jetson['l4t']}, JetPack {jetson['jetpack']}, TensorRT {jetson['tensorrt']}"
        console.result(f"{jetson['board']}: {versions}")
        console.result(jetson["advice"])
        console.result("")
    rows = [[t["name"], *(_yes(t[key]) for key in ("export", "run", "verify")), t["note"]] for t in data["targets"]]
    console.table("Targets", ["target", "export", "run", "verify", "how, or what is missing"], rows)
    rows = [[p["name"], p["version"] or "missing", p["fix"]] for p in data["packages"]]
    console.result("")
    console.table("Packages", ["package", "version", "to install it"], rows)
    console.result("")
    for check in data["checks"]:
        mark = ("ok ", "green") if check["ok"] else ("BAD", "bold red")
        console.result(mark, f" {check['name']}: {check['detail']}")


def question(text: str, first: bool) -> None:
    """Print a question above its answers, with a blank line before it if others stand above."""
    if not first:
        console.result("")
    console.result((text, "dim"))


def prediction(
    answer: str,
    scores: list[tuple[str, float]],
    confidence: float | None = None,
    in_domain: bool | None = None,
    box: list[float] | None = None,
) -> None:
    if box is not None:
        sides = zip(("left", "top", "right", "bottom"), box)
        console.result(", ".join(f"{name} {100 * share:.1f} %" for name, share in sides), " of the picture's sides")
        return
    if not scores:  # words that were generated
        console.result((answer + _trust(confidence, in_domain), "bold"))
        return
    rows = [[label, f"{100 * score:.1f} %"] for label, score in scores]
    rows = rows[:1] + [row for row in rows[1:] if row[1] != "0.0 %"]
    console.table(answer + _trust(confidence, in_domain), ["answer", "score"], rows)


def _trust(confidence: float | None, in_domain: bool | None) -> str:
    if in_domain is False:
        return " (not to be trusted)"
    return "" if confidence is None else f" ({_sure(confidence)} sure)"


def _sure(confidence: float) -> str:
    """A share that is never shown as 100 %: what is measured of it does not say so."""
    return "over 99 %" if confidence >= 0.995 else f"{100 * confidence:.0f} %"


def _lines(lines: dict[str, str]) -> None:
    width = max(map(len, lines)) + 2
    for name, text in lines.items():
        _line(name, text, width)


def _line(label: str, text: str, width: int) -> None:
    """A label and a text; on a terminal a long text goes on below itself, in a pipe it stays one line."""
    terminal = console.out()
    room = max(20, terminal.width - width) if terminal.is_terminal else max(1, len(text))
    pairs = r"(?<=\w) (?=\d)|(?<=\d) (?=(?:%|dB|[kM]?B|ms)(?:\W|$))"  # a name and its number, a number and its unit
    glued = re.sub(pairs, "\N{NO-BREAK SPACE}", plain(text))
    parts = textwrap.wrap(glued, room, break_long_words=False, break_on_hyphens=False) or [""]
    for index, part in enumerate(parts):
        part = part.replace("\N{NO-BREAK SPACE}", " ")
        console.result((f"{'' if index else label:<{width}}", "dim"), part)


def _parity(parity: Data | None) -> str:
    if parity is None:
        return "not measured"
    snr = parity.get("snr_db")
    return (
        f"{'' if snr is None else f'signal to noise {snr:.1f} dB, '}"
        f"max abs {parity['max_abs']:.2g}, PSNR {parity['psnr_db']:.1f} dB, cosine {parity['cosine']:.6f}, "
        f"same answer {_percent(parity['top1_agreement'])}, {parity['samples']} samples of {parity['data']}"
    )


def _accuracy(accuracy: Data | None) -> dict[str, str]:
    """A line for each metric. A schema-1 bundle has one, and names it in the section alone."""
    from edgevl.bundle.manifest import metric_title

    if accuracy is None:
        return {"accuracy": "not measured"}
    metrics = accuracy.get("metrics") or [accuracy | {"name": accuracy.get("metric", "accuracy")}]
    return {metric_title(each["name"]).lower(): _metric(each, accuracy["data"]) for each in metrics}


def _metric(metric: Data, data: str) -> str:
    low, high = metric["ci95"]
    return (
        f"{_percent(metric['artifact'])} (95 %: {100 * low:.1f} to {100 * high:.1f}), PyTorch "
        f"{_percent(metric['reference'])}, {metric['samples']} samples of {data}"
    )


def _build(program: Data) -> str:
    """What TensorRT's parser and builder said of one file."""
    engines = ", ".join(f"SM {e['capability']} {size(e['bytes'])} in {e['seconds']:.1f} s" for e in program["engines"])
    parsed = f"{program['artifact']}: {program['layers']} layers parsed by {program['package']} {program['version']}"
    macs = program.get("macs") or {}
    share = f", {_percent(macs['int8'] / sum(macs.values()))} of the multiply-adds in int8" if "int8" in macs else ""
    return f"{parsed}{share}, built for {engines}"


def _golden(golden: Data | None) -> str:
    return "not run" if golden is None else f"{golden['passed']} of {golden['total']} cases"


def _tensor(spec: Data) -> str:
    return f"{spec['name']} {spec['dtype']} [{', '.join(map(str, spec['shape']))}]"


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
