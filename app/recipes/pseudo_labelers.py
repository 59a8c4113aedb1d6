"""Pseudo-labelers that can be chosen: which images the network labels by itself."""

from __future__ import annotations

from app.errors import RecipeError
from app.recipes.choices import Choice, Group, integer, number, one_of

_THRESHOLD = (
    one_of(
        "way",
        ("given", "precision"),
        "Given: the confidence below. Precision: the least confidence at which few enough labels are wrong, found by "
        "labels that the network is not shown.",
    ),
    number("confidence", 0.97, 0.0, 1.0, "Least probability of the likeliest class at which it is taken, if given."),
    number("most_wrong", 0.02, 0.001, 0.5, "Precision: share of the images above the threshold that may be wrong."),
    number("certainty", 0.95, 0.5, 0.999, "Precision: how sure it is that no more are wrong."),
    number("held_out", 0.2, 0.0, 0.9, "Precision: share of the uniformly drawn labels that the network is not shown."),
)
_WEIGHT = number(
    "weight", 1.0, 0.0, 100.0, "How much a pseudo-label counts beside a human label while fitting; 0 only keeps it."
)

PSEUDO_LABELERS = Group(
    "pseudo_labeler",
    "Pseudo-labels",
    (
        Choice(
            "none",
            "None",
            "Only people and the simulated oracle label images.",
            "-",
            "When every label has to come from a person.",
        ),
        Choice(
            "threshold",
            "Above a threshold",
            "Labels every image that the network is sure enough of, and decides anew in each round.",
            "Lee 2013; pseudo-labelling on MNIST (source A); fixed-sequence tests for the precision (Bauer 1991; "
            "Angelopoulos et al. 2021)",
            "A network whose confidence can be trusted, or a wanted precision and some hundred uniformly drawn labels.",
            (*_THRESHOLD, _WEIGHT),
        ),
        Choice(
            "most_confident",
            "Most confident",
            "Labels a few images in each round, those that the network is surest of; what is labelled stays so.",
            "Least-confident MNIST (source E)",
            "To go on alone, a step at a time, when no human labels are left.",
            (
                integer("count", 10, 1, 100_000, "Images labelled in one round."),
                one_of(
                    "after", ("budget", "always"), "Begin when all human labels are given, or with the first model."
                ),
                _WEIGHT,
            ),
            goes_on=True,
        ),
        Choice(
            "budget_annotator",
            "Within a budget of its own",
            "Labels the surest images above a threshold within a budget, while people are asked about the others; what "
            "is labelled stays so until the network says otherwise.",
            "Pre-trained networks with a budget annotator (source D)",
            "Large pools of which a network soon knows a part well.",
            (
                integer("per_round", 100, 1, 1_000_000, "Most images labelled anew in one round."),
                integer("total", 1000, 1, 10_000_000, "Most pseudo-labels that stand at a time."),
                integer(
                    "per_class",
                    0,
                    0,
                    10_000_000,
                    "Most of them of one class, as the surest are often of a few easy ones; 0 for no bound.",
                ),
                *_THRESHOLD,
                _WEIGHT,
            ),
        ),
        Choice(
            "co_training",
            "Two networks teach each other",
            "Fits two networks to half of the labels each; then each learns what only the other one is sure of.",
            "Blum and Mitchell 1998; co-training on Caltech-101 (source C)",
            "Some hundred labels or more and as many open images; with a committee of two and a supervised fitting.",
            (
                integer(
                    "condition",
                    1,
                    0,
                    2,
                    "1: each learns from the other's sure labels. 2: by turns from the other's and its own, which "
                    "ruins a pair sooner. 0: from nobody's, to compare with.",
                ),
                one_of(
                    "own_epochs", ("even", "odd"), "Epochs in which condition 2 turns to a network's own sure labels."
                ),
                one_of(
                    "labelled",
                    ("both", "own", "source"),
                    "Labels that a network goes on with meanwhile: all; its own half, which keeps the two apart; or "
                    "the half of the network that it learns from in that epoch.",
                ),
                number(
                    "confidence", 0.95, 0.0, 1.0, "Probability of the likeliest class from which a network is sure."
                ),
                integer("epochs", 20, 1, 1000, "Epochs in which they teach, after the epochs of the fitting."),
                number(
                    "learning_rate", 0.0002, 1e-6, 1.0, "Adam's step size meanwhile; larger ones can ruin the pair."
                ),
                one_of(
                    "augment",
                    ("as_fitted", "on", "off"),
                    "Whether images are changed meanwhile: as the fitting changes them, or always, or never.",
                ),
                number(
                    "average",
                    0.0,
                    0.0,
                    0.9999,
                    "Share of the averaged weights, which teach and remain, kept at a step; 0 for no average.",
                ),
                _WEIGHT,
            ),
        ),
    ),
)


def check_held_out(way: object, held_out: float, draws_uniformly: bool) -> None:
    """Check that a threshold chosen for a precision has labels to be chosen by.

    Args:
        way: the pseudo-labeler's parameter, None if it has none.
        held_out: its share of the uniformly drawn labels.
        draws_uniformly: whether any image is drawn uniformly.
    Raises:
        RecipeError: nothing is held out, or no label is a fair sample of the pool.
    """
    if way != "precision":
        return
    if not held_out:
        reason = "without labels that the network is not shown, nobody knows how often it is wrong"
        raise RecipeError("pseudo_labeler.held_out", reason, "hold out a share such as 0.2, or use way = given")
    if not draws_uniformly:
        reason = "precision is measured on uniformly drawn labels, and this recipe draws none"
        remedy = "use random_share = 0.1 or more, cold_start = random, or way = given"
        raise RecipeError("pseudo_labeler.way", reason, remedy)


def check_pair(pseudo_labeler: str, posterior: str, members: int, fitting: str) -> None:
    """Check that there are two networks to teach each other, and that they are fitted to labels alone.

    Raises:
        RecipeError: co-training with another posterior than a committee of two, or another fitting.
    """
    if pseudo_labeler != "co_training":
        return
    if (posterior, members) != ("committee", 2):
        found = f"a {posterior} of {members}" if posterior == "committee" else posterior
        reason = f"co_training takes two networks that teach each other, and the posterior is {found}"
        raise RecipeError("pseudo_labeler", reason, "use posterior = committee with posterior.members = 2")
    if fitting != "supervised":
        reason = f"co_training fits to labels, its own and what it is taught, and {fitting} does more"
        raise RecipeError("pseudo_labeler", reason, "use fitting = supervised, or another pseudo_labeler")
