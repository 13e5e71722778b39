"""Plans an evaluation: the parts beside its confusion matrices."""

from omegaconf import DictConfig, ListConfig

from src.errors import UserError, whole
from src.evaluation.extras import Extras

WIDEST = 100  # pixels of a boundary


def read_extras(cfg: DictConfig) -> Extras:
    """Returns the extras of a composed `conf/eval.yaml`. Raises UserError for a value out of range."""
    if cfg.predictions not in (True, False):
        raise UserError(f"predictions={cfg.predictions}: must be true or false")
    widths = cfg.boundary
    is_list = isinstance(widths, ListConfig) and all(type(each) is int and 1 <= each <= WIDEST for each in widths)
    if not is_list or len(set(widths)) != len(widths):
        raise UserError(f"boundary={widths}: must be a list of different widths in pixels, 1 to {WIDEST}, as [3,5]")
    whole("worst", cfg.worst, 0)
    whole("suspects", cfg.suspects, 0)
    return Extras(cfg.predictions, cfg.worst, tuple(widths), cfg.suspects)
