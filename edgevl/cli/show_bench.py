"""Benchmarks and comparisons as text for a terminal. `bench` takes the plain data that `--json` prints."""

from typing import TYPE_CHECKING, Any

from edgevl.cli import console

if TYPE_CHECKING:
    from edgevl.bench.compare import Comparison
    from edgevl.bench.schema import Ratio

Data = dict[str, Any]
COLORS = {
    "ok": "green", "faster": "bold green", "no regression": "bold green", "regression": "bold red",
    "not proved": "bold yellow", "inconclusive": "yellow", "not judged": "dim",
}  # fmt: skip


def bench(data: Data) -> None:
    from edgevl.bench.schema import Ratio

    machine = data["machine"]
    console.result(f"{machine['cpu']}, {machine['cores']} cores, preset {data['preset']}{_bound(machine)}")
    if peak := machine.get("peak"):
        rates = ", ".join(f"{dtype} {rate:g} GMAC/s" for dtype, rate in peak["gmacs"].items())
        console.result(f"at most, on {peak['threads']} threads: {rates}, {peak['bandwidth_gbs']:g} GB/s from memory")
    columns = ["name", "scope", "n", "p50", "p90", "p99", "load", "first"]
    console.table("Time to an answer in ms", columns, [_bench_row(result) for result in data["results"]])
    for result in data["results"]:
        if len(result["stages"]) > 1:
            stages = ", ".join(f"{name} {ms:.2f}" for name, ms in result["stages"].items())
            console.result(f"{result['name']}, {result['scope']}, p50 by stage in ms: {stages}")
        if roofline := result.get("roofline"):
            _roofline(result, roofline)
        if energy := result.get("energy"):
            console.result(f"{result['name']}, {result['scope']}: {energy['mj']:.3g} mJ a query ({energy['source']})")
    for ratio in map(Ratio.model_validate, data["ratios"]):
        low, high = sorted(1 / side for side in ratio.ci95) if ratio.verdict == "slower" else ratio.ci95
        console.result((faster(ratio), "bold"), f" (95 %: {low:.1f} to {high:.1f})")
    for text, names in _remarks(data["results"]).items():
        console.result(f"note  {names}: {text}")


def faster(ratio: "Ratio") -> str:
    """One sentence for one ratio of a benchmark."""
    what = f"{ratio.factor:.1f}x {ratio.verdict} than" if ratio.verdict else "for sure neither faster nor slower than"
    return f"{ratio.scope}: {ratio.candidate} is {what} {ratio.baseline}"


def comparison(found: "Comparison") -> None:
    from edgevl.bench.compare import describe_drop, describe_speed

    verdict = (found.headline, COLORS[found.headline])
    console.result((f"{found.old.name} to {found.new.name}", "bold"), f", {found.how}  ", verdict)
    lines = [("faster" if p.is_gain else p.verdict, f"{p.scope}: {describe_speed(p)}") for p in found.speed]
    lines += (
        [(found.accuracy.verdict, f"{found.accuracy.title}: {describe_drop(found.accuracy)}")] if found.accuracy else []
    )
    for judgment, text in lines:
        console.result((f"{judgment:<14}", COLORS[judgment]), text)
    for text in [*(flag.text for flag in found.flags), *found.notes]:
        console.result(f"note  {text}")


def _roofline(result: Data, roofline: Data) -> None:
    cost = f"{roofline['macs'] / 1e6:.1f} M multiply-adds, {roofline['bytes'] / 1e6:.2f} MB"
    limits = f"{roofline['compute_ms']:.2f} ms of arithmetic, {roofline['memory_ms']:.2f} ms of memory"
    share = f"{100 * roofline['share']:.0f} % of the roofline ({roofline['limit']})"
    console.result(f"{result['name']}: ", (share, "bold"), f", {cost}: {limits}")
    for text in roofline["rest"]:
        console.result(f"  {text}")


def _bound(machine: Data) -> str:
    cores = machine.get("affinity")
    return f", bound to cores {', '.join(map(str, cores))}" if cores else ""


def _bench_row(result: Data) -> list[str]:
    times = [result[key] for key in ("p50_ms", "p90_ms", "p99_ms", "load_ms", "first_ms")]
    numbers = ["-" if time is None else f"{time:.2f}" for time in times]
    return [result["name"], result["scope"], str(result["n"]), *numbers]


def _remarks(results: list[Data]) -> dict[str, str]:
    """Each remark once, with whom it is about."""
    about: dict[str, list[str]] = {}
    for result in results:
        frame = [f"begins with a frame of {result['frame']} in memory"] if result.get("frame") else []
        flags = [f"{flag['text']}{' (NOT VALID)' if flag['invalidates'] else ''}" for flag in result["flags"]]
        for text in (f"runs in {result['runtime']}", *frame, *result["notes"], *flags):
            about.setdefault(text, []).append(f"{result['name']} ({result['scope']})")
    return {text: "all" if len(names) == len(results) else ", ".join(names) for text, names in about.items()}
