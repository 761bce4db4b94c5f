"""The report of `edgevl domain measure` as text. It takes the plain data that `--json` prints."""

from typing import Any

from edgevl.cli import console

Data = dict[str, Any]


def rates(data: Data) -> None:
    console.result((data["model"], "bold"), f"  trained on {data['about']}; temperature {data['temperature']:.3f}")
    columns = ["pictures", "number", "flagged", "by picture", "by answer", "lowest score", "right", "right if flagged"]
    console.table("Flagged (right: of the others)", columns, [_picture(row) for row in data["pictures"]])
    console.result("")
    columns = ["questions", "right", "confidence", "its error", "error of the scores"]
    rows = [_calibrated(row) for row in data["calibration"]]
    console.table("Confidence (error: expected calibration error)", columns, rows)
    console.result("")
    rows = [[row["name"], f"{row['count']:,}", _percent(row["caught"])] for row in data["words"]]
    console.table("Questions with a word that is named as unknown", ["questions", "number", "named"], rows)


def _picture(row: Data) -> list[str]:
    shares = [_percent(row[key]) for key in ("flagged", "by_picture", "by_answer")]
    right = [_percent(row[key]) for key in ("accuracy_trusted", "accuracy_flagged")]
    return [row["name"], f"{row['count']:,}", *shares, f"{row['lowest_score']:.2f}", *right]


def _calibrated(row: Data) -> list[str]:
    return [row["data"], *(_percent(row[key]) for key in ("accuracy", "confidence", "error", "error_of_scores"))]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
