"""Progress bars on standard error, silent where nobody watches."""

from tqdm import tqdm


def progress_bar(total: int, title: str, unit: str, enabled: bool = True):
    """A tqdm bar over `total` units; shown only if enabled and standard error is a terminal."""
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        leave=False,
        disable=None if enabled else True,
        dynamic_ncols=True,
    )
