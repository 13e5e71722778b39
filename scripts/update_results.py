"""Writes the tables of RESULTS.md anew from results/: `python scripts/update_results.py` (--check: only compares)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.config.resolvers import register_resolvers  # noqa: E402
from src.config.table_plan import read_table  # noqa: E402
from src.errors import UserError  # noqa: E402
from src.files import write_text  # noqa: E402
from src.reports.results_page import fill  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the page is out of date")
    options = parser.parse_args(argv)
    register_resolvers()
    page = ROOT / "RESULTS.md"
    text = page.read_text()
    try:
        new = fill(text, ROOT / "results", read_table)
    except UserError as error:
        sys.exit(f"error: {error}")
    if options.check and new != text:
        sys.exit("RESULTS.md is out of date: run python scripts/update_results.py")
    if not options.check:
        write_text(page, new)


if __name__ == "__main__":
    main()
