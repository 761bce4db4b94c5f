"""The audit as text for a terminal: what is inside an artifact, and what an accelerator may refuse."""

from typing import Any

Data = dict[str, Any]


def audit_lines(audit: Data) -> dict[str, str]:
    """Label -> text of what was read. `waste` is there only if there is any."""
    lines = {
        "weights": _sizes(audit["weight_bytes"]),
        "values": _counts(audit["activation_dtypes"]) or "not known",
        "arithmetic": arithmetic(audit),
    }
    return lines | ({"waste": text} if (text := waste(audit)) else {})


def arithmetic(audit: Data) -> str:
    """How many multiply-adds, and the share of each dtype."""
    total = sum(audit["macs"].values())
    if not total:
        return "the file does not say"
    shares = ", ".join(f"{dtype} {100 * share:.1f} %" for dtype, share in audit["mac_shares"].items())
    return f"{magnitude(total)} multiply-adds: {shares}"


def waste(audit: Data) -> str:
    """Bytes that the file could do without; "" for none."""
    parts = []
    if audit["duplicate_bytes"]:
        names = " = ".join(audit["duplicates"][0]["names"][:2])
        parts.append(f"{size(audit['duplicate_bytes'])} in copies of equal weights ({names})")
    if audit["unused_count"]:
        count, name = audit["unused_count"], audit["unused"][0]["name"]
        what = "weight that nothing reads" if count == 1 else "weights that nothing reads"
        parts.append(f"{size(audit['unused_bytes'])} in {count} {what} ({name})")
    return "; ".join(parts)


def hazard_summary(audit: Data) -> str:
    """One line: how many operators of which kind."""
    kinds: dict[str, int] = {}
    for hazard in audit["hazards"]:
        kinds[hazard["kind"]] = kinds.get(hazard["kind"], 0) + hazard["count"]
    return _counts(kinds) or "none"


def hazard_lines(audit: Data) -> list[tuple[str, str]]:
    """(kind, sentence) for each reason, with the operators that it is about."""
    reasons: dict[tuple[str, str], list[Data]] = {}
    for hazard in audit["hazards"]:
        reasons.setdefault((hazard["kind"], hazard["why"]), []).append(hazard)
    lines = [(kind, f"{_operators(hazards)}: {why}") for (kind, why), hazards in reasons.items()]
    hidden = audit["hazard_count"] - sum(hazard["count"] for hazard in audit["hazards"])
    return lines + ([("", f"and {hidden:,} more")] if hidden else [])


def _operators(hazards: list[Data]) -> str:
    if len(hazards) == 1 and hazards[0]["count"] == 1:
        return f"{hazards[0]['op']} {hazards[0]['name']}"
    names = ", ".join(f"{hazard['op']} {hazard['count']}" for hazard in hazards)
    return names if len(hazards) > 1 else f"{names}, first {hazards[0]['name']}"


def size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits."""
    for unit, factor in (("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def magnitude(count: int) -> str:
    """285780864 -> "285.8 M"."""
    for unit, factor in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return str(count)


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size(count)}" for name, count in _by_count(sizes)) or "none"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in _by_count(counts))


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
