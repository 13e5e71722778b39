"""Collects the figures of run folders in one CSV, results/runs.csv; run it again, and nothing is there twice.

python scripts/collect_results.py runs/NAME ... [--out FILE]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.errors import UserError  # noqa: E402
from src.reports.results_csv import ResultRow, collect, merge, read_rows, write_rows  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, or folders above them: runs")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results" / "runs.csv", help="the CSV that rows are added to"
    )
    options = parser.parse_args(argv)
    try:
        old = read_rows(options.out, ResultRow)
        new, left_out = collect(options.folders)
        rows = merge(old, new)
        write_rows(options.out, ResultRow, rows)
    except UserError as error:
        sys.exit(f"error: {error}")
    for line in left_out:
        print(f"left out: {line}")
    print(f"{options.out}: {len(rows)} rows, {len(rows) - len(old)} of them new")


if __name__ == "__main__":
    main()
