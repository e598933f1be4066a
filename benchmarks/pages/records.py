"""Reads the records that pages are made from."""

import os
from typing import Optional

from empir.report import shapes


def read(folder: str, name: str, shape: dict) -> Optional[dict]:
    """A record beside a dataset's folder of results; None if there is none.

    Args:
      folder: of the dataset's results.
      name: path of the record's file below the folder that holds `folder`.
      shape: its schema.

    Raises:
      EmpirError: for a record of another shape.
    """
    path = os.path.join(os.path.dirname(folder), name)
    return shapes.read(path, shape) if os.path.exists(path) else None
