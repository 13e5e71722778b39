"""Downloads KITTI's semantic benchmark (data=kitti), or with --road its road benchmark (data=kitti_road).

python scripts/download_kitti.py --root ~/data/kitti
python scripts/download_kitti.py --road --root ~/data/kitti_road
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.data.terms import KITTI
from src.data.tools.download import Archive, Folder, arguments, install, launch

HOST = "https://s3.eu-central-1.amazonaws.com/avg-kitti"
SEMANTICS = Archive(
    "data_semantics.zip",
    f"{HOST}/data_semantics.zip",
    314_000_000,
    (
        Folder("testing", "testing", {"image_2/*_10.png": 200}),
        Folder("training", "training", {"image_2/*_10.png": 200, "semantic/*_10.png": 200}),
    ),
)
ROAD = Archive(
    "data_road.zip",
    f"{HOST}/data_road.zip",
    500_000_000,
    (
        Folder("data_road/testing", "testing", {"image_2/u*_*.png": 290}),
        Folder(
            "data_road/training",
            "training",
            {"image_2/u*_*.png": 289, "gt_image_2/u*_road_*.png": 289, "gt_image_2/um_lane_*.png": 95},
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(f"{__doc__}\n{KITTI}", (SEMANTICS, ROAD))
    parser.add_argument("--road", action="store_true", help="the road benchmark; needs a --root of its own")
    options = parser.parse_args(argv)
    print(KITTI, flush=True)
    install([ROAD if options.road else SEMANTICS], options.root, options.archive)
    print(f"ready: data={'kitti_road' if options.road else 'kitti'} data.root={options.root}")


if __name__ == "__main__":
    launch(main)
