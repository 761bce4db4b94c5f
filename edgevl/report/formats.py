"""Numbers as a reader wants them. None is "not measured", never 0 and never a dash."""

from collections.abc import Sequence

UNMEASURED = "not measured"


def format_ms(value: float) -> str:
    """0.05 -> "0.0500 ms", 153 -> "153 ms", 1520 -> "1.52 s": three digits are what a timing supports."""
    number, unit = (value / 1000, "s") if value >= 999.5 else (value, "ms")
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def format_tick(value: float) -> str:
    """A mark of a time axis: 0.5 ms, 20 ms, 2 s."""
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def format_factor(ratio: float) -> str:
    """97.3 -> "97×", 9.73 -> "9.7×": the digits that an interval of some percent supports."""
    if ratio < 0.95:
        return f"{ratio:.2g}×"
    return f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×"


def format_share(share: float | None) -> str:
    return UNMEASURED if share is None else f"{100 * share:.1f}%"


def format_size(count: int | None) -> str:
    return UNMEASURED if count is None else f"{count / 1e6:.2f} MB"


def format_bytes(count: float) -> str:
    """In the unit that leaves one to three digits before the point."""
    return _scaled(count, ((10**6, "MB"), (10**3, "kB")), "B")


def format_count(count: float) -> str:
    return _scaled(count, ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")), "")


def _scaled(count: float, units: Sequence[tuple[int, str]], smallest: str) -> str:
    for factor, unit in units:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:g} {smallest}".strip()


def format_power(milliwatts: float | None) -> str:
    return UNMEASURED if milliwatts is None else f"{milliwatts / 1000:.2f} W"
