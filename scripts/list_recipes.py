"""Writes docs/recipes.md, the table of all recipes, from the headers of conf/experiment/.

python scripts/list_recipes.py [--check]
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.errors import UserError  # noqa: E402

FOLDER = ROOT / "conf" / "experiment"
PATH = ROOT / "docs" / "recipes.md"
FIELDS = ("Command", "Cost", "Report", "Protocol", "Errors")
OWN = FIELDS[:3]  # never inherited
PACKAGE = "# @package _global_"


@dataclass(frozen=True)
class Recipe:
    """The header of a recipe, with the fields that it inherits from its bases.

    Args:
        title: the network, the data, and its place in the report.
        fields: text by the names of `FIELDS`.
    """

    name: str
    title: str
    fields: dict[str, str]

    @property
    def commands(self) -> list[str]:
        """The commands of the header, one per line; the first is the recipe's own."""
        return [part.strip() for part in re.split(r"(?=python -m )", self.fields["Command"]) if part.strip()]


def recipe_names() -> list[str]:
    """All recipes; a name that begins with an underscore is a base, not a recipe."""
    paths = [path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml")]
    return sorted(path.as_posix() for path in paths if not path.name.startswith("_"))


def base_of(name: str) -> str | None:
    """The base that the defaults list of a recipe, or of another base, begins with; a bare name is of its folder."""
    found = re.search(r"^  - (\w+/)?(_(?!self_)\w+)$", (FOLDER / f"{name}.yaml").read_text(), re.M)
    return f"{found[1] or name.removesuffix(Path(name).name)}{found[2]}" if found else None


def read_header(name: str) -> tuple[str, dict[str, str]]:
    """The title and the fields of one yaml, without those of its base.

    A field is `# Command: ...`, continued in indented lines. `# Errors+: ...` adds to the base's field.

    Raises:
        UserError: a field is there twice, or the first line is not the package line.
    """
    path = FOLDER / f"{name}.yaml"
    lines = path.read_text().splitlines()
    if lines[0] != PACKAGE:
        raise UserError(f"{path}: must begin with '{PACKAGE}'; without it a recipe silently changes nothing")
    title: list[str] = []
    found: dict[str, list[str]] = {}
    current = title
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        if match := re.match(rf"# ((?:{'|'.join(FIELDS)})\+?): +(.*)", line):
            if match[1] in found:
                raise UserError(f"{path}: '# {match[1]}:' is there twice; keep one")
            current = found[match[1]] = [match[2]]
        else:
            current.append(line.removeprefix("#"))
    fields = {key: " ".join(part.strip().removesuffix("\\").strip() for part in parts) for key, parts in found.items()}
    return " ".join(part.strip() for part in title), fields


def read_recipe(name: str) -> Recipe:
    """Reads the header of conf/experiment/NAME.yaml and fills in what its bases state.

    Raises:
        UserError: a field is missing, there twice, added to nothing, or in a base although every recipe has its own.
    """
    title, own = read_header(name)
    fields = _inherited(name, own)
    if missing := [field for field in FIELDS if not fields.get(field)]:
        raise UserError(
            f"{FOLDER / name}.yaml: its header and those of its bases have no '# {missing[0]}: ...'; "
            f"a recipe has {', '.join(FIELDS)}"
        )
    return Recipe(name, title, {field: fields[field] for field in FIELDS})


def _inherited(name: str, own: dict[str, str]) -> dict[str, str]:
    """The fields of a yaml over those of its base."""
    fields: dict[str, str] = {}
    if base := base_of(name):
        stated = read_header(base)[1]
        if wrong := [field for field in OWN if field in stated]:
            raise UserError(f"{FOLDER / base}.yaml: '# {wrong[0]}:' belongs in the recipes: each states its own")
        fields = _inherited(base, stated)
    for key, text in own.items():
        field = key.removesuffix("+")
        if key != field:
            if field not in fields:
                raise UserError(f"{FOLDER / name}.yaml: '# {key}:' adds to a field that no base has: '# {field}:'")
            text = f"{text.removesuffix('.')}. {fields[field]}"
        fields[field] = text
    return fields


def recipe_table() -> str:
    """All recipes as Markdown, one section per folder."""
    sections: dict[str, list[Recipe]] = {}
    for name in recipe_names():
        sections.setdefault(name.rpartition("/")[0] or "own", []).append(read_recipe(name))
    lines = [
        "# Recipes",
        "",
        "Written by `python scripts/list_recipes.py` from the headers in `conf/experiment/`: edit those.",
        "",
        "`python -m src.train experiment=NAME data.root=DIR` trains one. With `scale=tiny` in place of `data.root=DIR`",
        "it trains in minutes on a CPU, on built-in data: network, loss, optimizer, schedule and kind of augmentation",
        "stay, sizes shrink. The figures are those of the reports (in `beyond`: published by others), and none was",
        "measured here. The header of each yaml also states the protocol that this project measures by.",
    ]
    for section, recipes in sections.items():
        lines += [
            "",
            f"## {section}",
            "",
            "| experiment= | trains | figure reported | known errors of the report | cost |",
            "|---|---|---|---|---|",
        ]
        for recipe in recipes:
            texts = [recipe.title, *(recipe.fields[field] for field in ("Report", "Errors", "Cost"))]
            lines.append(f"| {' | '.join(text.replace('|', '/') for text in [f'`{recipe.name}`', *texts])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not current")
    table = recipe_table()
    if parser.parse_args().check:
        if not PATH.is_file() or PATH.read_text() != table:
            sys.exit(f"error: {PATH} is not current; run python scripts/list_recipes.py")
    else:
        PATH.write_text(table)
    print(f"{len(recipe_names())} recipes in {PATH.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
