"""What the header of a recipe in conf/experiment says, and the table of all of them."""

import re
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError

FOLDER = Path(__file__).parents[2] / "conf" / "experiment"
FIELDS = ("Command", "Cost", "Report", "Protocol", "Errors")


@dataclass(frozen=True)
class Recipe:
    """A yaml's header: `# Command: ...` and so on, each going on in lines that are indented below it.

    Args:
        name: as in experiment=NAME.
        title: what is trained.
        fields: by the names of `FIELDS`.
    """

    name: str
    title: str
    fields: dict[str, str]

    @property
    def commands(self) -> list[str]:
        """One line each; the first is the recipe's own."""
        return [part.strip() for part in re.split(r"(?=python -m )", self.fields["Command"]) if part.strip()]


def recipe_names() -> list[str]:
    """All but the bases, whose names begin with an underscore."""
    paths = [path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml")]
    return sorted(path.as_posix() for path in paths if not path.name.startswith("_"))


def read_recipe(name: str) -> Recipe:
    """The header of conf/experiment/NAME.yaml.

    Raises:
        UserError: a field that is missing, empty or there twice; the package line is not the first.
    """
    path = FOLDER / f"{name}.yaml"
    lines = path.read_text().splitlines()
    if lines[0] != "# @package _global_":
        raise UserError(f"{path}: must begin with '# @package _global_'; without it a recipe changes nothing, silently")
    title: list[str] = []
    found: dict[str, list[str]] = {}
    current = title
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        if match := re.match(rf"# ({'|'.join(FIELDS)}): +(.*)", line):
            if match[1] in found:
                raise UserError(f"{path}: '# {match[1]}:' is there twice")
            current = found[match[1]] = [match[2]]
        else:
            current.append(line.removeprefix("#"))
    fields = {
        field: " ".join(part.strip().removesuffix("\\").strip() for part in found.get(field, [])) for field in FIELDS
    }
    if missing := [field for field in FIELDS if not fields[field]]:
        raise UserError(f"{path}: its header has no '# {missing[0]}: ...'; a recipe's has {', '.join(FIELDS)}")
    return Recipe(name, " ".join(part.strip() for part in title), fields)


def recipe_table() -> str:
    """All recipes as Markdown, a section a folder."""
    sections: dict[str, list[Recipe]] = {}
    for name in recipe_names():
        sections.setdefault(name.rpartition("/")[0] or "own", []).append(read_recipe(name))
    lines = [
        "# Recipes",
        "",
        "Written by `python scripts/list_recipes.py` from the headers of `conf/experiment/`; edit those.",
        "",
        "`python -m src.train experiment=NAME data.root=DIR` trains one; `scale=tiny` in place of `data.root=DIR`",
        "tries it on built-in data, in minutes on a CPU: network, loss, optimizer, schedule and kind of augmentation",
        "stay, sizes shrink. Figures are the reports' (or, in `beyond`, others' published ones), none measured here;",
        "each yaml's header also says the protocol that ours is measured by.",
    ]
    for section, recipes in sections.items():
        lines += [
            "",
            f"## {section}",
            "",
            "| experiment= | what | figure reported | its known errors | cost |",
            "|---|---|---|---|---|",
        ]
        for recipe in recipes:
            cells = [
                f"`{recipe.name}`",
                recipe.title,
                *(recipe.fields[field] for field in ("Report", "Errors", "Cost")),
            ]
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"
