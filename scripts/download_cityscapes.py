"""Downloads Cityscapes' images and fine labels (data=cityscapes), with --extra the coarse set too.

Needs an account (https://www.cityscapes-dataset.com/register/), told in the environment alone:
export CITYSCAPES_USERNAME=NAME; read -rs CITYSCAPES_PASSWORD; export CITYSCAPES_PASSWORD
python scripts/download_cityscapes.py --root ~/data/cityscapes
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.data.tools.download import Archive, Folder, Session, arguments, install, launch
from src.data.tools.fetch import ask, make_opener

LICENCE = (
    "Cityscapes (Cordts et al. 2016): free for non-commercial purposes such as research and teaching, not to be passed "
    "on; the terms that you agreed to with your account hold (https://www.cityscapes-dataset.com/license/). Cite it."
)
SITE = "https://www.cityscapes-dataset.com"
USERNAME, PASSWORD = "CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD"
STATED = "stated by the site, as seven public projects have it"
FRAMES = {"train": 2975, "val": 500, "test": 1525}


def package(number: int, name: str, size: int, md5: str, folders: tuple[Folder, ...]) -> Archive:
    return Archive(name, f"{SITE}/file-handling/?packageID={number}", size, folders, f"md5:{md5}", STATED)


def parts(kind: str, ending: str, counts: dict[str, int]) -> tuple[Folder, ...]:
    return tuple(Folder(f"{kind}/{split}", f"{kind}/{split}", {f"*/*_{ending}": n}) for split, n in counts.items())


FINE = (
    package(
        1, "gtFine_trainvaltest.zip", 241_000_000, "4237c19de34c8a376e9ba46b495d6f66",
        parts("gtFine", "gtFine_labelIds.png", FRAMES),
    ),
    package(
        3, "leftImg8bit_trainvaltest.zip", 11_600_000_000, "0a6e97e94b616a514066c9e2adb0c97f",
        parts("leftImg8bit", "leftImg8bit.png", FRAMES),
    ),
)  # fmt: skip
EXTRA = (
    package(
        2, "gtCoarse.zip", 1_300_000_000, "1c7b95c84b1d36cc59a9194d8e5b989f",
        parts("gtCoarse", "gtCoarse_labelIds.png", {"train": 2975, "val": 500, "train_extra": 19998}),
    ),
    package(
        4, "leftImg8bit_trainextra.zip", 44_000_000_000, "9167a331a158ce3e8989e166c95d56d4",
        parts("leftImg8bit", "leftImg8bit.png", {"train_extra": 19998}),
    ),
)  # fmt: skip


def login() -> Session:
    """Logs in as the official csDownload does: form, cookie, and a redirect where the password was right.

    Raises:
        ValueError: no credentials in the environment, or wrong ones.
    """
    unset = [name for name in (USERNAME, PASSWORD) if not os.environ.get(name)]
    if unset:
        raise ValueError(
            f"{' and '.join(unset)} not set: put the name and the password of your account at {SITE} into the "
            f"environment as {USERNAME} and {PASSWORD}, or give archives fetched by hand with --archive FILE"
        )
    opener = make_opener(redirects=False)
    ask(opener, f"{SITE}/login")
    form = {"username": os.environ[USERNAME], "password": os.environ[PASSWORD], "submit": "Login"}
    status, _ = ask(opener, f"{SITE}/login", urlencode(form).encode())
    if status != 302:
        raise ValueError(f"{SITE}: refuses the login; check {USERNAME} and {PASSWORD}")

    def checksum(archive: Archive) -> str:
        """The site's md5 of now: it holds where the archive was replaced after this script was written."""
        _, text = ask(opener, archive.url.replace("file-handling", "md5-sum"))
        found = re.match(r"\s*([0-9a-f]{32})\b", text)
        if not found:
            raise ValueError(f"{SITE}: states no md5 of {archive.name}; may this account download it?")
        if archive.checksum != f"md5:{found[1]}":
            print(f"{archive.name}: was replaced on the site, which now states md5 {found[1]}", flush=True)
        return f"md5:{found[1]}"

    return Session(opener, checksum)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(f"{__doc__}\n{LICENCE}", FINE + EXTRA)
    parser.add_argument(
        "--extra", action="store_true", help="also the 19,998 coarsely labelled frames, 45 GB (data.extra=true)"
    )
    options = parser.parse_args(argv)
    print(LICENCE, flush=True)
    install(FINE + EXTRA if options.extra else FINE, options.root, options.archive, login)
    print(f"ready: data=cityscapes data.root={options.root}")


if __name__ == "__main__":
    launch(main)
