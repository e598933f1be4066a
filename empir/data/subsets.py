"""Subsets of images that represent a whole split: drawn at random, with each class's share."""

import hashlib

import numpy as np

from empir.errors import EmpirError

#: Ways to choose n images: at random with the classes' shares, or the first ones.
STRATIFIED, FIRST = SUBSETS = ("stratified", "first")
#: Seed of subsets unless told otherwise. It is not that of attacks, so that runs of several seeds
#: attack the same images.
SEED = 0


def stratified(labels: np.ndarray, n: int, seed: int = SEED) -> np.ndarray:
    """Indices of n images, drawn at random within each class; int64 [n], increasing.

    Every class has the same share of its images drawn, up to rounding: of N images, N_c of which
    are of class c, n N_c / N rounded down, and one more for the classes with the largest remainders
    (of equal ones, the lower classes). An accuracy on the subset then estimates that on all images,
    and its error has no part that comes from the frequencies of the classes.

    Args:
      labels: int [N].
      n: 1..N.
      seed: the indices are a function of labels, n and seed.

    Raises:
      EmpirError: for another n.
    """
    labels = np.asarray(labels)
    if not 1 <= n <= len(labels):
        raise EmpirError(f"nb_samples={n}: there are 1..{len(labels)} images")
    classes, members = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(n * members.astype(np.int64), len(labels))
    extra = np.argsort(-remainders, kind="stable")[: n - shares.sum()]
    shares[extra] += 1
    random = np.random.RandomState(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == one))[:share]
        for one, share in zip(classes, shares)
    ]
    return np.sort(np.concatenate(chosen))


def describe(indices: np.ndarray, seed: int) -> dict:
    """What a record's `data` says of a stratified subset."""
    sha256 = hashlib.sha256(np.asarray(indices, "<i8").tobytes()).hexdigest()
    return {"subset": STRATIFIED, "subset_seed": seed, "indices_sha256": sha256}


class Rows:
    """Chosen rows of what gives arrays on demand, as `imagenet.load`'s images do."""

    def __init__(self, array, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.dtype, self.shape = array.dtype, (len(rows),) + tuple(array.shape[1:])

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, rows):
        return self._array[self._rows[rows]]

    def __array__(self, dtype=None):
        return np.asarray(self._array)[self._rows].astype(dtype or self.dtype)

    def first(self, n: int) -> "Rows":
        """The same for the first n rows."""
        return Rows(self._array, self._rows[:n])

    @property
    def digest(self) -> str:
        """A digest of which examples these are and how they are read."""
        return f"{self._array.digest}:{hashlib.sha256(self._rows.tobytes()).hexdigest()}"
