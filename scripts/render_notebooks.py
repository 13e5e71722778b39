"""Executes the notebooks, and writes what they show into docs/notebooks/ as Markdown with small pictures.

python scripts/render_notebooks.py [NAME ...] [--out FOLDER]

They run in a folder of their own, so that no run of yours is read or changed.
"""

import argparse
import base64
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS, RENDERED = ROOT / "notebooks", ROOT / "docs" / "notebooks"
NEEDED = ("src", "conf", "zoo", "results")  # of the repository, in the folder that notebooks run in
NOTEBOOK = re.compile(r"\]\((\w+)\.ipynb")  # a link to another one
LIMIT = 1800  # seconds per cell
WIDEST, COLOURS = 1200, 128  # pixels and colours of a picture


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of notebooks, without .ipynb; all if none is given")
    parser.add_argument("--out", type=Path, default=RENDERED, help="folder of the Markdown files")
    options = parser.parse_args(argv)
    for name in options.names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(NOTEBOOKS / f"{name}.ipynb", Path(folder).resolve())
            text = "\n\n".join(render(notebook, options.out / name, Path(folder).resolve()))
        (options.out / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")
        print(options.out / f"{name}.md", flush=True)


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Executes a notebook in an empty folder with links to the repository. Raises CellExecutionError if a cell does."""
    for name in NEEDED:
        (folder / name).symlink_to(ROOT / name)
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=LIMIT, coalesce_streams=True, resources=place).execute()
    return notebook


def render(notebook: nbformat.NotebookNode, pictures: Path, folder: Path) -> Iterator[str]:
    """Yields the cells and outputs of an executed notebook as Markdown; writes its pictures into a folder, anew."""
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield NOTEBOOK.sub(r"](\1.md", cell.source.replace("](../", "](../../"))
            continue
        magic, _, rest = cell.source.partition("\n")
        yield f"```bash\n{rest}\n```" if magic == "%%bash" else f"```python\n{cell.source}\n```"
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                path = pictures / f"{len(list(pictures.glob('*.png'))) + 1}.png"
                path.write_bytes(small(base64.b64decode(data["image/png"])))
                yield f"![{path.stem}]({pictures.name}/{path.name})"
            elif "text/markdown" in data:
                yield data["text/markdown"]
            elif text := output.get("text") or data.get("text/plain", ""):
                yield f"```text\n{text.replace(f'{folder}/', '').rstrip()}\n```"


def small(png: bytes) -> bytes:
    """Returns a PNG of fewer pixels and colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((WIDEST, 10 * WIDEST))
    file = io.BytesIO()
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
