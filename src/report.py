"""Writes one HTML page that compares runs, with its tables as Markdown and CSV. See `python -m src.report --help`."""

import logging

from omegaconf import DictConfig

from src.config.cli import launch
from src.config.report_plan import plan_report

log = logging.getLogger(__name__)


def report(cfg: DictConfig) -> int:
    """Writes the report of `cfg.runs` into `cfg.out`; returns the number of runs in it."""
    plan = plan_report(cfg)

    from src.reports.page.content import read_content  # everything given is known to be right
    from src.reports.page.files import write_report

    content = read_content(plan.folders, plan.title, plan.num_images, plan.width)
    for line in content.left_out:
        log.warning("left out: %s", line)
    page = write_report(content, plan.out)
    evaluations = sum(row.evaluation is not None for row in content.rows)
    log.info("%d runs, %d evaluations: %s", len(content.runs), evaluations, page)
    return len(content.runs)


if __name__ == "__main__":
    launch(report, "report")
