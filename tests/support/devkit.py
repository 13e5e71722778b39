"""KITTI road's development kit (cvlibs.net, devkit_road, Python), written out in plain steps."""

import numpy as np


def road_figures_of_devkit(probabilities: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    """Computes evaluateRoad.py's evalExp and pxEval_maximizeFMeasure, written out by threshold; 255 is not valid."""
    thresholds = np.array(range(256)) / 255.0
    total = dict.fromkeys(("FN", "FP", "pos", "neg"), 0)
    fn, fp = np.zeros(256), np.zeros(256)
    for probability, truth in zip(probabilities, truths, strict=True):
        positive, negative = truth == 0, truth == 1
        for index, threshold in enumerate(thresholds):
            fn[index] += (probability[positive] < threshold).sum()
            fp[index] += (probability[negative] >= threshold).sum()
        total["pos"] += positive.sum()
        total["neg"] += negative.sum()
    tp = total["pos"] - fn
    recall, precision = tp / float(total["pos"]), tp / (tp + fp + 1e-10)
    invalid = (recall == 0) & (precision == 0)
    recall, precision, place = recall[~invalid], precision[~invalid], thresholds[~invalid]
    average, counter = 0, 0
    for step in np.arange(0, 1.1, 0.1):
        found = np.nonzero(recall >= step)[0]
        if len(found) == 0:
            continue
        average += max(precision[found])
        counter += 1
    f = 2 * (precision * recall) / (precision + recall + 1e-10)
    best = f.argmax()
    return {
        "max_f": f[best], "average_precision": average / counter, "precision": precision[best],
        "recall": recall[best], "threshold": place[best],
        "false_positive_rate": fp[~invalid][best] / total["neg"], "false_negative_rate": 1 - recall[best],
    }  # fmt: skip


def birds_eye_of_devkit(picture: np.ndarray, calibration: dict[str, np.ndarray]) -> np.ndarray:
    """Turns a picture `(H, W)` into BirdsEyeView.py's 800x400 cells of 5 cm, far rows first; 0 outside of the picture.

    Points are projected in three dimensions: road to camera, rectified, to the image; pixels are counted from 1.
    """
    to_road = np.vstack([calibration["Tr_cam_to_road"].reshape(3, 4), [0, 0, 0, 1]])
    rectify = np.eye(4)
    rectify[:3, :3] = calibration["R0_rect"].reshape(3, 3)
    result, res = np.zeros((800, 400), dtype=picture.dtype), 0.05
    x_vec, z_vec = np.arange(-10 + res / 2, 10, res), np.arange(46 - res / 2, 6, -res)
    x, z = (each.astype("f4") for each in np.meshgrid(x_vec, z_vec))
    for row in range(800):
        points = np.stack([x[row], np.zeros(400), z[row], np.ones(400)])
        u, v, w = calibration["P2"].reshape(3, 4) @ (rectify @ np.linalg.solve(to_road, points))
        u, v = u / w, v / w
        seen = (v >= 1) & (u >= 1) & (v <= picture.shape[0]) & (u <= picture.shape[1])
        result[row, seen] = picture[v[seen].astype("u4") - 1, u[seen].astype("u4") - 1]
    return result
