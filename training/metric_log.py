"""What a run logs: rows in metrics.jsonl, and the same for TensorBoard."""

import json
import os
import time
from pathlib import Path
from typing import Any

from edgevl.atomic import write_atomically
from edgevl.reading import Unreadable, strict_json

Row = dict[str, float]
METRICS = "metrics.jsonl"


class MetricLog:
    """Writes each row at once. On resume, rows after the checkpoint go: they are trained again."""

    def __init__(self, folder: Path, first_step: int):
        self.path = folder / METRICS
        self.rows = [row for row in read_rows(self.path) if row["step"] <= first_step] if first_step else []
        spent = [row["processor_seconds"] for row in self.rows if "processor_seconds" in row]
        self._began = time.process_time() - (spent[-1] if spent else 0)
        write_atomically(self.path, "".join(_line(row) for row in self.rows))
        self._board = _Board(folder / "tensorboard", first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        if not values:
            return
        row = {"step": step, **values, "processor_seconds": round(time.process_time() - self._began, 2)}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        self._board.write(step, values)

    def close(self) -> None:
        self._board.close()


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl in order; a line that is none is left out: a kill may cut one short."""
    rows: list[Row] = []
    if not path.is_file():
        return rows
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(2**20):
            row = _row(line)
            rows += [row] if row else []
    return rows


def _row(line: str) -> Row | None:
    try:
        row = strict_json(line)
    except Unreadable:
        return None
    numbers = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
    return row if numbers and type(row.get("step")) is int else None


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


class _Board:
    """TensorBoard's events. Its own writer does this in a thread, where a full disk ends in a traceback."""

    def __init__(self, folder: Path, first_step: int):
        from tensorboard.compat.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{os.getpid()}.{time.time_ns()}"
        self._writer = RecordWriter((folder / name).open("wb"))
        self._add(file_version="brain.Event:2")
        # The reader drops what an earlier process logged at this step and after.
        self._add(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=Summary(value=numbers))
        self._writer.flush()

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def close(self) -> None:
        self._writer.close()
