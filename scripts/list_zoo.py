"""Writes zoo/index.json and the README's table of networks from the folders in zoo/.

python scripts/list_zoo.py [--check]
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.reports.zoo import put_table, read_entries, read_index, write_index  # noqa: E402


def is_current(zoo: Path) -> bool:
    """Returns whether the index and the README are as the folders are."""
    entries, readme = read_entries(zoo), (zoo.parent / "README.md").read_text()
    return read_index(zoo) == entries and put_table(readme, entries) == readme


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; status 1 if they differ from the folders")
    if parser.parse_args().check:
        sys.exit(0 if is_current(ROOT / "zoo") else "zoo/index.json or README.md is old: python scripts/list_zoo.py")
    print(f"{len(write_index(ROOT / 'zoo'))} networks in zoo/index.json and README.md")


if __name__ == "__main__":
    main()
