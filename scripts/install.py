"""Installs requirements.lock into a virtual environment, every file by its hash. `make setup` calls it.

python scripts/install.py --venv .venv

pip installs uv only, by the hash in the lock: a call so plain that each pip since 22.3 (Python 3.11.0) does the same.
uv then installs exactly the releases of the lock and resolves nothing, so no release of tomorrow can change the result.
Needs the standard library only.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
# uv does not read pip's configuration. A machine with a mirror has it there, so it is passed on by these names.
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the virtual environment")
    folder = parser.parse_args().venv
    if not (3, 11) <= sys.version_info < (3, 14):
        sys.exit(
            f"error: this is Python {sys.version.split()[0]}; use 3.11 to 3.13, for example make PYTHON=python3.12"
        )
    python = make_venv(folder)
    bootstrap = folder / "uv.txt"
    bootstrap.write_text(pin("uv", LOCK.read_text()))
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    run("pip", *pip, "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", bootstrap)
    settings = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    for name, value in translate(settings).items():
        os.environ.setdefault(name, value)  # a setting for uv itself comes first
    # By hash, so that it does not matter which of several indexes a file comes from.
    os.environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    print(f"installing {LOCK.name} into {folder}; docs/install.md says how much that downloads", flush=True)
    # The lock constrains builds too: a package without a wheel is built by the setuptools that is pinned there.
    options = ["--require-hashes", "--build-constraints", LOCK, *(["--no-index"] if "no-index=" in settings else [])]
    # The lock is whole, so nothing is resolved; packages that a user added stay.
    # Bytecode is made here once: if Python may not write it, every command would compile torch and all else anew.
    install = ["pip", "install", "--no-deps", "--compile-bytecode", "--python", python, *options, "-r", LOCK]
    run("uv", folder / "bin" / "uv", *install)


def make_venv(folder: Path) -> Path:
    """Returns the Python of a virtual environment of this Python's version, made anew if `folder` has none."""
    python = folder / "bin" / "python"
    if (folder / "pyvenv.cfg").is_file():
        code = f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
        if python.exists() and subprocess.run([python, "-c", code], check=False).returncode == 0:
            return python
    elif folder.is_dir() and any(folder.iterdir()):
        sys.exit(f"error: {folder} is not empty and not a virtual environment; move it, or choose a folder with VENV=")
    run("venv", sys.executable, "-m", "venv", "--clear", folder)
    return python


def pin(package: str, lock: str) -> str:
    """Returns the lines of one package in the text of a lock: its version and its hashes."""
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    if not found:
        sys.exit(f"error: {LOCK} has no {package}; make it again with: make lock")
    return found[0]


def translate(settings: str) -> dict[str, str]:
    """Returns pip's settings as environment variables of uv.

    Args:
        settings: output of `pip config list`: lines such as `global.index-url='URL'`; the environment has precedence
            over the section of the command, and that over the global one.
    """
    found = {}
    for section in ("global", "install", ":env:"):
        for line in settings.splitlines():
            key, _, value = line.partition("=")
            name = key.removeprefix(f"{section}.")
            if name != key and name in SETTINGS:
                found[SETTINGS[name]] = " ".join(ast.literal_eval(value).split())
    if "UV_FIND_LINKS" in found:
        found["UV_FIND_LINKS"] = found["UV_FIND_LINKS"].replace(" ", ",")
    return found


def run(name: str, *command: str | Path) -> None:
    """Runs a command, its output shown. Ends this script if it fails."""
    if status := subprocess.run([str(part) for part in command], check=False).returncode:
        sys.exit(
            f"error: {name} failed (status {status}), its reason is above; make setup continues. "
            "Mirrors and proxies: docs/install.md"
        )


if __name__ == "__main__":
    main()
