"""Writes docs/recipes.md, the table of all recipes, from the headers of conf/experiment/.

python scripts/list_recipes.py [--check]
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.config.recipes import recipe_names, recipe_table  # noqa: E402

PATH = ROOT / "docs" / "recipes.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the file is not current")
    table = recipe_table()
    if parser.parse_args().check:
        if not PATH.is_file() or PATH.read_text() != table:
            sys.exit(f"error: {PATH} is not current; run python scripts/list_recipes.py")
    else:
        PATH.write_text(table)
    print(f"{len(recipe_names())} recipes in {PATH.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
