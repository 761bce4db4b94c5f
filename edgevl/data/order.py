"""Finite data in training: small portions, in an order of their own in each epoch, without an end.

The order is a seeded permutation for each epoch and a pure function of (seed, epoch, position): nothing is remembered,
so a run that resumes at a position, with any number of processes, gets the very next sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from edgevl.contracts import Dataset, Record


class View:
    """Another data set's records, chosen or cut: it has the same name, labels and words."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def about(self) -> str:
        return self.dataset.about

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        return self.dataset.labels

    def texts(self) -> Iterator[str]:
        return self.dataset.texts()


class Portions(View):
    """Records of finite data with at most `count` questions each: one with more is there several times.

    Every record is there once before any is there again, so that the first ones show as many pictures as there are.
    """

    finite = True

    def __init__(self, dataset: Dataset, count: int):
        super().__init__(dataset)
        self._count = count
        asked = (len(dataset[index].questions or ()) for index in range(len(dataset)))
        places = [(first, index) for index, n in enumerate(asked) for first in range(0, n, count)]
        self._places = sorted(places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        first, place = self._places[index]
        record = self.dataset[place]
        return replace(record, questions=(record.questions or ())[first : first + self._count])


class Shuffled(View):
    """Finite data without an end: epoch after epoch, each in another order."""

    finite = False

    def __init__(self, dataset: Dataset, seed: int):
        super().__init__(dataset)
        self._seed = seed

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, index: int) -> Record:
        epoch, place = divmod(index, len(self.dataset))
        return self.dataset[int(permutation(len(self.dataset), self._seed, epoch)[place])]


def in_portions(dataset: Dataset, count: int) -> Dataset:
    """Return finite data in portions of at most `count` questions. Endless data is taken as it comes."""
    return Portions(dataset, count) if dataset.finite else dataset


def for_training(dataset: Dataset, seed: int) -> Dataset:
    """Return finite data as an endless sequence of epochs. Endless data is taken as it comes."""
    return Shuffled(dataset, seed) if dataset.finite else dataset


@lru_cache(maxsize=4)  # a batch may begin in one epoch and end in the next
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the numbers from 0 to `count` - 1 in another order, int64 [count], the same with every version of numpy.

    (`Generator.permutation` promises nothing across versions; the raw bits of a bit generator are fixed.)
    """
    bits_N = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(count)
    return np.argsort(bits_N, kind="stable")
