"""The progress bar of predictions, with their speed."""

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Speed(ProgressColumn):
    """Shows the images per second of a progress bar."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def progress(title: str, total: int | None) -> Progress:
    """Returns a progress bar with the speed; nothing is shown for one item."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), Speed())
    bar = Progress(*columns, TimeRemainingColumn(), disable=total == 1)
    bar.add_task(title, total=total)
    return bar
