"""Downloads Cityscapes' images and fine labels (data=cityscapes), with --extra the coarse set too.

Needs an account (https://www.cityscapes-dataset.com/register/), which is read from the environment only:
export CITYSCAPES_USERNAME=NAME; read -rs CITYSCAPES_PASSWORD; export CITYSCAPES_PASSWORD
python scripts/download_cityscapes.py --root ~/data/cityscapes
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.data.terms import CITYSCAPES
from src.data.tools.download import TIMEOUT, Archive, Folder, arguments, digest, install, launch
from src.data.tools.pace import in_time
from src.errors import UserError

if TYPE_CHECKING:
    import requests

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


@cache
def login() -> "requests.Session":
    """Logs in as the official csDownload does: form, cookie, and a redirect if the password is right.

    Raises:
        UserError: no credentials in the environment, or wrong ones.
    """
    import requests

    unset = [name for name in (USERNAME, PASSWORD) if not os.environ.get(name)]
    if unset:
        raise UserError(
            f"{' and '.join(unset)} not set: put the name and the password of your account at {SITE} into the "
            f"environment as {USERNAME} and {PASSWORD}, or give archives fetched by hand with --archive FILE"
        )
    session = requests.Session()
    session.request = partial(session.request, timeout=TIMEOUT)  # csDownload sets none, and would wait forever
    session.get(f"{SITE}/login", allow_redirects=False).raise_for_status()
    form = {"username": os.environ[USERNAME], "password": os.environ[PASSWORD], "submit": "Login"}
    answer = session.post(f"{SITE}/login", data=form, allow_redirects=False)
    answer.raise_for_status()
    if answer.status_code != 302:
        raise UserError(f"{SITE}: refuses the login; check {USERNAME} and {PASSWORD}")
    return session


def fetch(archive: Archive, folder: Path) -> Archive:
    """Downloads a package by csDownload, which continues a part and compares the md5 that the site states.

    Returns:
        The archive with the checksum that the site states now: it may have been replaced after this script was written.
    """
    from cityscapesscripts.download.downloader import download_packages
    from requests import RequestException

    file = folder / archive.name
    if file.is_file() and f"md5:{digest(file, 'md5')}" == archive.checksum:
        return archive  # arrived whole, then the script was stopped
    session = login()

    def download(arrived: Callable[[], None]) -> None:
        def answered(response: "requests.Response", **_: object) -> None:
            chunks = response.iter_content

            def iter_content(chunk_size: int | None = 1) -> Iterator[bytes]:
                yield from chunks(chunk_size)
                arrived()  # csDownload then computes the md5, for minutes

            response.iter_content = iter_content

        session.hooks["response"] = [answered]
        download_packages(session=session, package_names=[archive.name], destination_path=str(folder), resume=True)

    try:
        in_time(download, folder)
    except RequestException as error:
        if error.response is not None and error.response.status_code == 416:
            file.unlink()  # longer than the package of today
        raise
    except TimeoutError:
        raise
    except Exception as error:  # csDownload has no other
        if "MD5" in str(error):
            file.unlink()
        reason = str(error).rstrip(".") or "leads elsewhere in place of the file"
        raise UserError(
            f"{SITE}: {archive.name}: {reason}; run the same command again, or see on the site whether this account "
            "may download it"
        ) from error
    if (stated := f"md5:{digest(file, 'md5')}") != archive.checksum:
        print(f"{archive.name}: was replaced on the site, which now states {stated}", flush=True)
    return replace(archive, checksum=stated)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(f"{__doc__}\n{CITYSCAPES}", FINE + EXTRA)
    parser.add_argument(
        "--extra", action="store_true", help="also the 19,998 coarsely labelled frames, 45 GB (data.extra=true)"
    )
    options = parser.parse_args(argv)
    print(CITYSCAPES, flush=True)
    install(FINE + EXTRA if options.extra else FINE, options.root, options.archive, fetch)
    print(f"ready: data=cityscapes data.root={options.root}")


if __name__ == "__main__":
    launch(main)
