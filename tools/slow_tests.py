"""Run the tests that are marked slow, one file after another, and keep what each said.

    python tools/slow_tests.py                       # all that have not passed at this commit
    python tools/slow_tests.py tests/quantize        # those below a path
    python tools/slow_tests.py --show                # what came of each so far

Each file runs in a process of its own, killed when it takes too long; its output goes to build/slow-tests/NAME.log, its
outcome to build/slow-tests/results.json, so that a run that was stopped goes on where it was. `.ci/run` runs the quick
tests only. Exit code 1 if a file failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "slow-tests"
LIMIT = 3600.0  # seconds for a file


def slow_files(below: list[str]) -> list[str]:
    """Test files that hold a slow test, by their paths from the repository's root."""
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow", *below]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode not in (0, 5):  # 5: none
        raise SystemExit(f"pytest could not collect the tests:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return sorted({line.split("::")[0] for line in done.stdout.splitlines() if "::" in line})


def commit() -> str:
    """The commit that is checked out, with a plus if files differ from it."""
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8").stdout.strip()


def run(file: str, limit: float) -> dict[str, Any]:
    """Run the slow tests of one file. Returns its outcome, with pytest's last line."""
    log = OUT / (file.removeprefix("tests/").removesuffix(".py").replace("/", "-") + ".log")
    began = time.time()
    with log.open("w", encoding="utf-8") as out:
        try:
            asked = [sys.executable, "-m", "pytest", "-m", "slow", "-q", "-p", "no:cacheprovider", "-rfEs", file]
            code = subprocess.run(asked, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = None
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    said = lines[-1].strip("= ") if lines and code is not None else f"not done after {limit:.0f} s"
    return {"file": file, "exit": code, "seconds": round(time.time() - began), "said": said, "commit": commit()}


def load() -> dict[str, dict[str, Any]]:
    results = OUT / "results.json"
    return json.loads(results.read_text("utf-8")) if results.exists() else {}


def save(results: dict[str, dict[str, Any]]) -> None:
    new = OUT / "results.json.new"
    new.write_text(json.dumps(results, indent=1), encoding="utf-8")
    os.replace(new, OUT / "results.json")


def show(results: dict[str, dict[str, Any]]) -> None:
    for each in results.values():
        outcome = "ok" if each["exit"] == 0 else "FAILED"
        print(f"{outcome:6} {each['commit']:9} {each['seconds']:5} s  {each['file']}: {each['said']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("below", nargs="*", default=["tests"], help="test files or folders (default: all)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds that one file may take (default: 3600)")
    parser.add_argument("--again", action="store_true", help="run what has passed at this commit, too")
    parser.add_argument("--show", action="store_true", help="print the outcomes so far and run nothing")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    results = load()
    for file in [] if arguments.show else slow_files(arguments.below):
        known = results.get(file, {})
        if not arguments.again and known.get("exit") == 0 and known["commit"] == commit():
            continue
        results[file] = run(file, arguments.limit)
        save(results)
        show({file: results[file]})
    if arguments.show:
        show(results)
    return 1 if any(each["exit"] != 0 for each in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
