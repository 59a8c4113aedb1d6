"""How well people agree beyond chance: Cohen's kappa, Fleiss' kappa and Krippendorff's alpha, for classes.

Pure functions of plain numbers. An image is what its people said, one class each; counts are kept exact and divided
once, so the order of images, people or classes changes no bit of a result. A measure is None where it is not defined:
nobody to compare, or no disagreement that chance could have made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Said = Mapping[int, int]  # what people said of one image: class by person
Table = Mapping[tuple[int, int], int | Fraction]  # how often one said the first class where the other said the second


@dataclass(frozen=True)
class Coincidences:
    """Every pair of answers to the same image, in both orders, weighed so that an image counts as its answers do.

    Attributes:
        pairs: a pair of classes with its weight; an image with m answers gives each of its pairs 1 / (m - 1).
        images: those that two or more people answered.
    References:
        Krippendorff 2011, "Computing Krippendorff's alpha-reliability": the coincidence matrix.
    """

    pairs: Mapping[tuple[int, int], Fraction]
    images: int

    def marginals(self) -> Counter[int]:
        """Return how many answers that can be paired gave each class."""
        sums: dict[int, Fraction] = {}
        for (one, _), weight in self.pairs.items():
            sums[one] = sums.get(one, Fraction()) + weight
        return Counter({known: int(weight) for known, weight in sums.items()})


def coincidences(images: Iterable[Said]) -> Coincidences:
    """Return the coincidences of images; those that fewer than two people answered are left out."""
    by_answers: dict[int, Counter[tuple[int, int]]] = {}
    count = 0
    for said in images:
        if len(said) < 2:
            continue
        count += 1
        pairs, classes = by_answers.setdefault(len(said), Counter()), Counter(said.values())
        for one, times in classes.items():
            for other, others in classes.items():
                pairs[one, other] += times * (others - (one == other))
    weighed: dict[tuple[int, int], Fraction] = {}
    for answers, pairs in by_answers.items():
        for pair, times in pairs.items():
            if times:
                weighed[pair] = weighed.get(pair, Fraction()) + Fraction(times, answers - 1)
    return Coincidences(weighed, count)


def krippendorff_alpha(found: Coincidences) -> float | None:
    """Return alpha for nominal classes and missing answers, at most 1; 0 is chance.

    None if no image has two answers, or all answers that can be paired give the same class.
    """
    given = found.marginals()
    agreed = {known: found.pairs.get((known, known), Fraction()) for known in given}
    total = given.total()
    expected = total**2 - sum(times**2 for times in given.values())
    if not expected:
        return None
    return float(1 - (total - 1) * (total - sum(agreed.values())) / Fraction(expected))


def krippendorff_alpha_of_class(found: Coincidences, class_id: int) -> float | None:
    """Return alpha where all other classes are one; None if nobody, or everybody, gave the class."""
    given = found.marginals()
    own, total = given[class_id], given.total()
    if not own or own == total:
        return None
    differing = own - found.pairs.get((class_id, class_id), Fraction())
    return float(1 - (total - 1) * differing / Fraction(own * (total - own)))


def fleiss_kappa(images: Sequence[Sequence[int]]) -> float | None:
    """Return Fleiss' kappa, at most 1; 0 is chance.

    Args:
        images: how many people gave each class, for every image; the same number of people at least two for all.
    Returns:
        None if there is no image, or all answers give the same class.
    Raises:
        ValueError: the images have different numbers of answers, or fewer than two.
    References:
        Fleiss 1971, "Measuring nominal scale agreement among many raters", equations 1 to 7.
    """
    if not images:
        return None
    answers = sum(images[0])
    if answers < 2 or any(sum(counts) != answers for counts in images):
        raise ValueError("Fleiss' kappa needs the same number of answers, two or more, for every image")
    agreed = Fraction(sum(times * (times - 1) for counts in images for times in counts), answers * (answers - 1))
    totals = [sum(column) for column in zip(*images, strict=True)]
    by_chance = Fraction(sum(total**2 for total in totals), (len(images) * answers) ** 2)
    return None if by_chance == 1 else float((agreed / len(images) - by_chance) / (1 - by_chance))


def cohen_kappa(table: Table) -> float | None:
    """Return the kappa of two who judged the same images, at most 1; 0 is chance.

    None if they share no image, or both gave one and the same class throughout.

    References:
        Cohen 1960, "A coefficient of agreement for nominal scales", equation 1.
    """
    total = Fraction(sum(table.values()))
    if not total:
        return None
    rows: dict[int, Fraction] = {}
    columns: dict[int, Fraction] = {}
    for (one, other), weight in table.items():
        rows[one] = rows.get(one, Fraction()) + weight
        columns[other] = columns.get(other, Fraction()) + weight
    agreed = sum((Fraction(weight) for (one, other), weight in table.items() if one == other), Fraction()) / total
    by_chance = sum((weight * columns.get(one, Fraction()) for one, weight in rows.items()), Fraction()) / total**2
    return None if by_chance == 1 else float((agreed - by_chance) / (1 - by_chance))


def pair_tables(images: Iterable[Said]) -> dict[tuple[int, int], Counter[tuple[int, int]]]:
    """Return what every two people said of the images that they share, the person with the lower id first."""
    tables: dict[tuple[int, int], Counter[tuple[int, int]]] = {}
    for said in images:
        people = sorted(said)
        for place, one in enumerate(people):
            for other in people[place + 1 :]:
                tables.setdefault((one, other), Counter())[said[one], said[other]] += 1
    return tables


def tables_against_others(images: Iterable[Said]) -> dict[int, dict[tuple[int, int], Fraction]]:
    """Return what each person said against what the others said of the same images.

    Every image that a person shares weighs 1, spread over its other answers.
    """
    by_answers: dict[int, dict[int, Counter[tuple[int, int]]]] = {}
    for said in images:
        if len(said) < 2:
            continue
        classes = Counter(said.values())
        for person, own in said.items():
            table = by_answers.setdefault(person, {}).setdefault(len(said), Counter())
            for other, times in classes.items():
                table[own, other] += times - (own == other)
    return {person: _weighed(tables) for person, tables in by_answers.items()}


def _weighed(tables: Mapping[int, Counter[tuple[int, int]]]) -> dict[tuple[int, int], Fraction]:
    weighed: dict[tuple[int, int], Fraction] = {}
    for answers, table in tables.items():
        for pair, times in table.items():
            if times:
                weighed[pair] = weighed.get(pair, Fraction()) + Fraction(times, answers - 1)
    return weighed
