"""Options that give a metric a number of points, such as `--sigma top1=0.1`."""

from collections.abc import Iterable, Iterator

from backbones.errors import InputError
from results.errors import ResultsError
from results.metrics import find_metric


def read_points(option: str, texts: Iterable[str], example: str) -> Iterator[tuple[str, float]]:
    """Metric and points of each `METRIC=POINTS` that an option was given.

    Raises InputError, naming the option and its value, for another form, fewer than 0 points and unknown metrics.
    """
    for text in texts:
        name, _, number = text.partition("=")
        try:
            points = float(number)
        except ValueError:
            points = -1.0
        if not 0 <= points < float("inf"):
            raise InputError(f'{option} {text}: expected METRIC=POINTS, for example "{example}", with 0 points or more')
        try:
            yield find_metric(name).name, points
        except ResultsError as error:
            raise InputError(f"{option} {text}: {error}") from None
