"""Held-out scores for the experiments of ``entropy_lens.py``: folds that keep groups together, intervals over them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Score:
    """A number with its interval over resampled groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def record(self) -> dict[str, float]:
        """For the JSON file."""
        return {"value": self.value, "low": self.low, "high": self.high}


def grouped_folds(labels: np.ndarray, groups: np.ndarray, *, folds: int, seed: int) -> list[Split]:
    """Folds in which no group is in train and test at once, labels as even as that allows."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(folds, len(np.unique(groups)))
    made = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(made.split(labels, labels, groups))


def plain_folds(labels: np.ndarray, *, folds: int, seed: int) -> list[Split]:
    """Folds that look at the labels only, as in the paper: a group is on both sides."""
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))


def crossed_folds(groups: np.ndarray, wordings: np.ndarray, *, folds: int, seed: int) -> list[Split]:
    """Folds in which neither a group nor a wording is in train and test at once."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    found = []
    for part in np.array_split(names, min(folds, len(names))):
        inside = np.isin(groups, part)
        for wording in np.unique(wordings):
            test, train = inside & (wordings == wording), ~inside & (wordings != wording)
            if test.any() and train.any():
                found.append((np.flatnonzero(train), np.flatnonzero(test)))
    return found


def one_out(groups: np.ndarray) -> list[Split]:
    """Each group tested once by what was learnt on all others."""
    return [(np.flatnonzero(groups != g), np.flatnonzero(groups == g)) for g in np.unique(groups)]


def neighbors(k: int) -> Callable[[], Any]:
    """A k-nearest-neighbor classifier on the numbers as they are (Euclidean, nats)."""
    def make() -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(k)

    return make


def logistic() -> Any:
    """Logistic regression on standardized numbers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def dummy(seed: int) -> Callable[[], Any]:
    """Draws labels with the frequencies of the training rows, anew in each fold."""
    rng = np.random.default_rng(seed)

    def make() -> Any:
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="stratified", random_state=int(rng.integers(2**31)))

    return make


def held_out(make: Callable[[], Any], features: np.ndarray, labels: np.ndarray, splits: list[Split]) -> np.ndarray:
    """Predicted probabilities (n, classes) of each row by a classifier that has not seen its fold; columns sorted."""
    classes = np.unique(labels)
    found = np.full((len(labels), len(classes)), np.nan)
    for train, test in splits:
        model = make()
        if hasattr(model, "n_neighbors"):
            model.n_neighbors = min(model.n_neighbors, len(train))
        model.fit(features[train], labels[train])
        columns = np.searchsorted(classes, model.classes_)
        found[np.ix_(test, columns)] = model.predict_proba(features[test])
        found[np.ix_(test, np.setdiff1d(np.arange(len(classes)), columns))] = 0.0
    if np.isnan(found).any():
        raise SystemExit("the folds leave rows untested; give more groups")
    return found


class MacroAUC:
    """Area under the curve of each class against the rest, averaged over classes; sorted once for many draws of rows.

    With two classes the area of the second. Ties count half.
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        classes = np.unique(labels)
        columns = range(probabilities.shape[1]) if probabilities.shape[1] > 2 else [1]
        self._sides = [
            (labels == classes[c], np.unique(probabilities[:, c], return_inverse=True)[1]) for c in columns
        ]

    def __call__(self, rows: np.ndarray) -> float:
        """The area of these rows, with as many copies of each as there are; NaN where a class has none."""
        areas = []
        for inside, rank in self._sides:
            copies = np.bincount(rows, minlength=len(rank)).astype(float)
            yes = np.bincount(rank, weights=copies * inside)
            no = np.bincount(rank, weights=copies * ~inside)
            pairs = yes.sum() * no.sum()
            areas.append(float(yes @ (np.cumsum(no) - no / 2)) / pairs if pairs else np.nan)
        return float(np.mean(areas))


def resampled(groups: np.ndarray, times: int, seed: int, strata: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Rows of groups drawn with replacement, inside strata of groups where there are some."""
    rng = np.random.default_rng(seed)
    names, number = np.unique(groups, return_inverse=True)
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    of = np.zeros(len(names), dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1][
        [r[0] for r in rows]
    ]
    parts = [np.flatnonzero(of == s) for s in np.unique(of)]
    for _ in range(times):
        yield np.concatenate([rows[i] for part in parts for i in rng.choice(part, len(part))])


def with_interval(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, *, times: int, seed: int,
    strata: np.ndarray | None = None, level: float = 0.95,
) -> Score:
    """A statistic of rows with its percentile interval over groups drawn with replacement."""
    value = statistic(np.arange(len(groups)))
    drawn = np.array([statistic(rows) for rows in resampled(groups, times, seed, strata)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no draw at all leaves no interval
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (np.nan, np.nan)
    return Score(value, float(low), float(high))


def auc_score(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, *, times: int, seed: int,
    strata: np.ndarray | None = None,
) -> Score:
    """Macro AUC of held-out predictions with its interval over groups."""
    return with_interval(MacroAUC(labels, probabilities), groups, times=times, seed=seed, strata=strata)


def accuracy_score(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, *, times: int, seed: int,
    strata: np.ndarray | None = None,
) -> Score:
    """Share of rows whose most probable class is theirs (among equals a share), with its interval over groups."""
    classes = np.unique(labels)
    top = np.isclose(probabilities, probabilities.max(axis=1, keepdims=True))
    right = top[np.arange(len(labels)), np.searchsorted(classes, labels)] / top.sum(axis=1)
    return with_interval(lambda r: float(right[r].mean()), groups, times=times, seed=seed, strata=strata)
