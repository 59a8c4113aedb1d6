"""The annotator model: true classes and people's mistakes, estimated together from who said what.

Dawid and Skene's model, fitted by expectation maximisation: every person has a confusion matrix, every image one true
class. Rows of the matrices have a Dirichlet prior that expects people to be right more often than wrong, without which
the model could swap classes. Plain numbers in and out; the same answers give the same result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.services.agreement import Said

RIGHT, WRONG = 4.0, 1.0  # imaginary answers to every class, by every person: right ones, and wrong ones in all
EACH_CLASS = 1.0  # imaginary images of every class
MOST_CLASSES = 20  # up to which an image may be of a class that nobody gave; beyond, that would take too long
MOST_STEPS = 100
CLOSE_ENOUGH = 1e-4  # largest change of a chance after which the fit ends
_NEGLIGIBLE = 1e-12

_Answers = tuple[tuple[int, int], ...]  # places of person and class, of one image
_Matrices = list[list[list[float]]]  # by place of the person, of the class said, of the true class


@dataclass(frozen=True)
class Fit:
    """What the model makes of the answers.

    Attributes:
        chances: for every image, the chance of each class that can be; they sum to 1.
        confusions: by person, true class and class said: how often the person says it, rows sum to 1.
        shares: how common each class is.
        objectives: after each step, the log of likelihood times prior, up to a constant; never falls.
    """

    chances: tuple[Mapping[int, float], ...]
    confusions: Mapping[int, Mapping[int, Mapping[int, float]]]
    shares: Mapping[int, float]
    objectives: tuple[float, ...]


def fit(images: Sequence[Said], classes: Sequence[int], known: Sequence[tuple[Said, int]] = ()) -> Fit:
    """Estimate the true classes of images and how well each person tells them.

    Args:
        images: what people said of each; an image without answers gets the shares of the classes.
        classes: all that can be given, at least one, each once.
        known: answers to images whose class is known; they tell about people only.
    Raises:
        ValueError: an answer or a known class is not among the classes.
    References:
        Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm", section 3.
    """
    fitter = _Fitter(images, classes, known)
    objectives: list[float] = []
    for _ in range(MOST_STEPS):
        objective, change = fitter.step()
        objectives.append(objective)
        if change < CLOSE_ENOUGH:
            break
    return Fit(fitter.chances(images), fitter.confusions(), fitter.class_shares(), tuple(objectives))


class _Fitter:
    """One fit. Images with the same answers are one, weighed by how many they are."""

    def __init__(self, images: Sequence[Said], classes: Sequence[int], known: Sequence[tuple[Said, int]]) -> None:
        self._classes = list(classes)
        self._class_at = {class_id: place for place, class_id in enumerate(classes)}
        said = [*images, *(answers for answers, _ in known)]
        self._people = sorted({person for answers in said for person in answers})
        self._person_at = {person: place for place, person in enumerate(self._people)}
        self._weights = Counter(self._pattern(answers) for answers in images)
        self._known = Counter((self._pattern(answers), self._place(class_id)) for answers, class_id in known)
        self._supports = {pattern: self._support(pattern) for pattern in self._weights}
        self._chances = {pattern: self._first_chances(pattern) for pattern in self._weights}

    def step(self) -> tuple[float, float]:
        """Estimate people from chances, then chances from people; return the objective and the largest change."""
        self._maximise()
        objective = self._log_prior()
        change = 0.0
        for pattern, weight in self._weights.items():
            chances, log_likelihood = self._expect(pattern)
            objective += weight * log_likelihood
            before = self._chances[pattern]
            change = max(change, *(abs(new - old) for new, old in zip(chances, before, strict=True)))
            self._chances[pattern] = chances
        for (pattern, true), weight in self._known.items():
            objective += weight * sum(self._logs[person][said][true] for person, said in pattern)
        return objective, change

    def chances(self, images: Sequence[Said]) -> tuple[Mapping[int, float], ...]:
        told = {
            pattern: {self._classes[at]: chance for at, chance in zip(self._supports[pattern], chances, strict=True)}
            for pattern, chances in self._chances.items()
        }
        return tuple(told[self._pattern(answers)] for answers in images)

    def confusions(self) -> dict[int, dict[int, dict[int, float]]]:
        return {
            person: {
                true: {said: math.exp(self._logs[at][s][t]) for s, said in enumerate(self._classes)}
                for t, true in enumerate(self._classes)
            }
            for at, person in enumerate(self._people)
        }

    def class_shares(self) -> dict[int, float]:
        return {known: math.exp(log) for known, log in zip(self._classes, self._log_shares, strict=True)}

    def _pattern(self, answers: Said) -> _Answers:
        return tuple(sorted((self._person_at[person], self._place(said)) for person, said in answers.items()))

    def _place(self, class_id: int) -> int:
        if class_id not in self._class_at:
            raise ValueError(f"class {class_id} is not among the classes")
        return self._class_at[class_id]

    def _support(self, pattern: _Answers) -> list[int]:
        if len(self._classes) <= MOST_CLASSES or not pattern:
            return list(range(len(self._classes)))
        return sorted({said for _, said in pattern})

    def _first_chances(self, pattern: _Answers) -> list[float]:
        """Start with the share of the people who gave each class."""
        support = self._supports[pattern]
        given = Counter(said for _, said in pattern)
        return [given[at] / len(pattern) if pattern else 1 / len(support) for at in support]

    def _maximise(self) -> None:
        size, wrong = len(self._classes), WRONG / max(1, len(self._classes) - 1)
        counts: _Matrices = [
            [[RIGHT if said == true else wrong for true in range(size)] for said in range(size)] for _ in self._people
        ]
        images = [EACH_CLASS] * size
        for pattern, weight in self._weights.items():
            for true, chance in zip(self._supports[pattern], self._chances[pattern], strict=True):
                if chance > _NEGLIGIBLE:
                    images[true] += weight * chance
                    for person, said in pattern:
                        counts[person][said][true] += weight * chance
        for (pattern, true), weight in self._known.items():
            for person, said in pattern:
                counts[person][said][true] += weight
        self._logs = [_log_columns(columns) for columns in counts]
        total = math.fsum(images)
        self._log_shares = [math.log(count / total) for count in images]

    def _expect(self, pattern: _Answers) -> tuple[list[float], float]:
        support = self._supports[pattern]
        scores = [self._log_shares[at] for at in support]
        is_whole = len(support) == len(self._classes)
        for person, said in pattern:
            column = self._logs[person][said]
            added = column if is_whole else [column[at] for at in support]
            scores = [score + log for score, log in zip(scores, added, strict=True)]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        total = math.fsum(weights)
        return [weight / total for weight in weights], top + math.log(total)

    def _log_prior(self) -> float:
        wrong = WRONG / max(1, len(self._classes) - 1)
        people = math.fsum(
            (RIGHT if said == true else wrong) * log
            for columns in self._logs
            for said, column in enumerate(columns)
            for true, log in enumerate(column)
        )
        return people + EACH_CLASS * math.fsum(self._log_shares)


def _log_columns(columns: list[list[float]]) -> list[list[float]]:
    """Return the logs of counts by class said and true class, as shares of each true class."""
    totals = [math.fsum(column[true] for column in columns) for true in range(len(columns))]
    return [[math.log(count / total) for count, total in zip(column, totals, strict=True)] for column in columns]
