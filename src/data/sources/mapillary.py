"""Mapillary Vistas (Neuhold et al. 2017): street scenes of the whole world; its configuration file lists the labels."""

import json

from src.data.grouping import RESERVED
from src.data.reading import read_text
from src.data.source import find_root
from src.data.sources.paired import PairedFolders
from src.data.terms import MAPILLARY
from src.errors import UserError
from src.labels import IGNORE_INDEX


class Mapillary(PairedFolders):
    """`root/{training,validation}/images/*.jpg` and `root/{training,validation}/v1.2/labels/*.png`, or `v2.0/labels`.

    This is the layout of the archive of version 2.0; that of version 1 has `{training,validation}/labels`. A label is a
    place in the list of `root/config_v1.2.json` (or `config_v2.0.json`, or `config.json` of version 1), which is read:
    classes are the labels that it evaluates, by their readable names. The labels of testing are kept back.

    Args:
        labels: "v1.2" (66 labels) or "v2.0" (124).

    Raises:
        UserError: other labels, no `training/images` in root, no list of labels or another content of it.
    """

    dataset = "mapillary"
    terms = MAPILLARY
    splits = ("train", "val", "test")
    unlabelled = ("test",)

    def __init__(self, root: str, labels: str = "v1.2") -> None:
        if labels not in ("v1.2", "v2.0"):
            raise UserError(f"labels={labels}: must be v1.2 or v2.0")
        remedy = "holds training/ validation/ and config_v1.2.json, as Mapillary Vistas' archive unpacks"
        self.root = find_root(root, "training/images", remedy)
        is_first = labels == "v1.2" and (self.root / "training/labels").is_dir()  # the layout of version 1
        names = (f"config_{labels}.json", *(("config.json",) if is_first else ()))
        file = next((self.root / name for name in names if (self.root / name).is_file()), None)
        if file is None:
            raise UserError(f"{self.root}: no {names[0]}, which lists the labels; unpack the archive again")
        try:
            entries = json.loads(read_text(file))["labels"]
            readable = [str(entry["readable"]) for entry in entries]
            if len(set(readable)) < len(readable) or not set(readable).isdisjoint(RESERVED):
                readable = [str(entry["name"]) for entry in entries]
            evaluated = [place for place, entry in enumerate(entries) if entry["evaluate"] is True]
            colours = [tuple(int(value) for value in entry["color"]) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: is no list of Mapillary's labels ({error!r}); unpack the archive again"
            ) from error
        self.classes = {
            readable[place]: (colours[place][0], colours[place][1], colours[place][2]) for place in evaluated
        }
        if not 2 <= len(self.classes) == len(evaluated) <= 254 or len(entries) > 255:
            raise UserError(f"{file}: {len(evaluated)} labels to evaluate, which must be 2 to 254 different ones")
        self.table = dict.fromkeys([*range(len(entries)), 255], IGNORE_INDEX)
        self.table |= {place: index for index, place in enumerate(evaluated)}
        self.labels = f"mapillary-{labels}-{len(self.classes)}"
        masks = "labels" if is_first else f"{labels}/labels"
        self.folders = {
            "train": ("training/images", f"training/{masks}"),
            "val": ("validation/images", f"validation/{masks}"),
            "test": ("testing/images", None),
        }
