"""The catalogue of everything that can be chosen about learning and asking, as plain typed data.

Forms, the API, the command line, the docs and the worker all read this one catalogue, so a name or a parameter is
spelled, bounded and explained once. This module knows no torch and no database: what a choice *does* lives in
``worker.learning``, where a registry per group carries exactly the names listed here (a contract test compares them).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from app.errors import RecipeError

Value = int | float | bool | str


class ParameterKind(StrEnum):
    """How a parameter is typed into a form and read from text."""

    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"


@dataclass(frozen=True)
class Parameter:
    """One bounded knob of a choice; ``low`` and ``high`` are inclusive."""

    name: str
    kind: ParameterKind
    default: Value
    explanation: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, value: object, where: str) -> Value:
        """Return ``value`` as this parameter's type.

        Args:
            value: a JSON value, or the text of a form field or a command-line option.
            where: dotted name of the input, used in the error.
        Raises:
            RecipeError: the type is wrong or the value is out of bounds.
        """
        match self.kind:
            case ParameterKind.SWITCH:
                return _parse_switch(value, where)
            case ParameterKind.CHOICE:
                if value not in self.choices:
                    remedy = f"use one of: {_listed(self.choices)}"
                    raise RecipeError(where, f"{value!r} is not one of its values", remedy)
                return str(value)
            case ParameterKind.INTEGER | ParameterKind.NUMBER:
                return self._parse_number(value, where)

    def _parse_number(self, value: object, where: str) -> int | float:
        wanted = "a whole number" if self.kind is ParameterKind.INTEGER else "a number"
        bounds = f"use {wanted} from {_shown(self.low)} to {_shown(self.high)}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds)
        try:
            number = float(value)
        except ValueError:
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds) from None
        if self.kind is ParameterKind.INTEGER and not number.is_integer():
            raise RecipeError(where, f"{value!r} is not {wanted}", bounds)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= number <= high:
            raise RecipeError(where, f"{value!r} is out of bounds", bounds)
        return int(number) if self.kind is ParameterKind.INTEGER else number


@dataclass(frozen=True)
class Choice:
    """One named way of doing a group's work, with what a person needs to know to choose it.

    ``least_samples`` is the fewest posterior samples that it can work with.
    """

    name: str
    title: str
    explanation: str
    source: str
    when: str
    parameters: tuple[Parameter, ...] = ()
    least_samples: int = 1


@dataclass(frozen=True)
class Group:
    """Choices of which a recipe takes exactly one; the first is the default."""

    name: str
    title: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if len(set(names)) != len(names):
            raise ValueError(f"group {self.name!r} lists a name twice: {names}")

    def choice(self, name: object) -> Choice:
        """Return the choice called ``name``; raise RecipeError naming the others if there is none."""
        for choice in self.choices:
            if choice.name == name:
                return choice
        known = _listed(choice.name for choice in self.choices)
        raise RecipeError(self.name, f"there is no {self.name} called {name!r}", f"use one of: {known}")


def _number(name: str, default: float, low: float, high: float, explanation: str) -> Parameter:
    return Parameter(name, ParameterKind.NUMBER, default, explanation, low, high)


def _integer(name: str, default: int, low: int, high: int, explanation: str) -> Parameter:
    return Parameter(name, ParameterKind.INTEGER, default, explanation, low, high)


def _switch(name: str, default: bool, explanation: str) -> Parameter:
    return Parameter(name, ParameterKind.SWITCH, default, explanation)


def _one_of(name: str, choices: tuple[str, ...], explanation: str) -> Parameter:
    return Parameter(name, ParameterKind.CHOICE, choices[0], explanation, choices=choices)


_FIRST_WEIGHTS = _one_of(
    "weights", ("none", "imagenet"), "Begin from new weights, or from those published for ImageNet."
)

NETWORKS = Group(
    "network",
    "Network",
    (
        Choice(
            "al_cnn",
            "Small convolutional network",
            "Three convolutions with batch-norm, a hidden layer of 512 and dropout; learns small pictures on a CPU.",
            "Warm-started active learning on MNIST and CIFAR-10 (source A)",
            "Digits, icons and other small images; the default.",
            (_number("dropout", 0.5, 0.0, 0.9, "Share of hidden units silenced while fitting."),),
        ),
        Choice(
            "softmax_regression",
            "Softmax regression",
            "One linear layer on the pixels: the simplest classifier, fitted in a blink.",
            "Least-confident MNIST (source E)",
            "As a baseline, or when a round has to take no time at all.",
        ),
        Choice(
            "ssl_cnn",
            "Four-convolution network",
            "Four convolutions with batch-norm and a dense layer of 128; a little stronger and slower than al_cnn.",
            "Pseudo-labelling on MNIST (source A)",
            "Small images of 4 to 128 pixels; with fitting.weight_decay = 0.002 as published.",
            (_number("dropout", 0.2, 0.0, 0.9, "Share of hidden units silenced while fitting."),),
        ),
        Choice(
            "resnet18",
            "ResNet-18",
            "Residual network of 18 layers; up to 64 pixels its first layer keeps the resolution.",
            "He et al. 2016; deep active learning on MNIST and CIFAR-10 (source B)",
            "Small colour photos with a GPU, or larger ones with published weights.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "resnet50",
            "ResNet-50",
            "Residual network of 50 layers and 2,048 features; up to 64 pixels its first layer keeps the resolution.",
            "He et al. 2016; pre-trained networks (source D)",
            "Photos with published weights and a GPU.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "efficientnet_b0",
            "EfficientNet-B0",
            "Small and accurate network for photos.",
            "Tan and Le 2019; co-training on Caltech-101 (source C)",
            "Photos of 64 pixels or more, best with published weights.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "densenet121",
            "DenseNet-121",
            "Each layer sees all before it; strong published weights.",
            "Huang et al. 2017; pre-trained networks on SVHN (source D)",
            "Photos of 29 pixels or more, best with published weights.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "googlenet",
            "GoogLeNet",
            "The first inception network, without its auxiliary heads.",
            "Szegedy et al. 2015; pre-trained networks (source D)",
            "Photos of 15 pixels or more; to compare with published runs.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "inception_v3",
            "Inception v3",
            "The third inception network, without its auxiliary head.",
            "Szegedy et al. 2016; pre-trained networks (source D)",
            "Photos of 75 pixels or more, 299 as published; to compare with published runs.",
            (_FIRST_WEIGHTS,),
        ),
        Choice(
            "squeezenet1_1",
            "SqueezeNet 1.1",
            "Under a million weights; the smallest of the published networks.",
            "Iandola et al. 2016; pre-trained networks (source D)",
            "Photos of 17 pixels or more with published weights, where memory or time is short.",
            (_FIRST_WEIGHTS,),
        ),
    ),
)

POSTERIORS = Group(
    "posterior",
    "Posterior",
    (
        Choice(
            "plugin",
            "Plug-in",
            "Takes the fitted network's softmax at its word.",
            "Point estimate (maximum a posteriori)",
            "The fastest, and a strong default.",
        ),
        Choice(
            "mc_dropout",
            "Dropout samples",
            "Reads images several times, with other hidden units of the head silenced each time, alike for all images.",
            "Gal and Ghahramani 2016; consistent masks as in Kirsch et al. 2019; source B",
            "With a network that has dropout in its head; one pass through the trunk.",
            (_integer("samples", 100, 2, 1000, "Posterior samples S."),),
        ),
        Choice(
            "laplace",
            "Laplace",
            "Draws weights from the normal distribution that the curvature of the loss allows around the fitted ones.",
            "MacKay 1992; Daxberger et al. 2021; source A, corrected",
            "With any network, and labels kept aside (fitting.validation_share); without them it is far too unsure.",
            (
                _integer("samples", 100, 2, 1000, "Posterior samples S."),
                _one_of(
                    "weights",
                    ("last_layer", "all_weights"),
                    "Weights that are uncertain; the last layer alone costs one pass, all weights cost one a sample.",
                ),
                _one_of(
                    "predictive",
                    ("linearised", "sampled"),
                    "Read samples by the network's slope at the fitted weights, or anew; alike for the last layer.",
                ),
                _one_of(
                    "prior",
                    ("validation", "marginal_likelihood", "given"),
                    "What chooses the prior: the loss on labels kept aside (without any, as the next), the marginal "
                    "likelihood of all labels, or prior_precision.",
                ),
                _number("prior_precision", 1.0, 1e-6, 1e6, "Pull of a given prior towards zero."),
            ),
        ),
        Choice(
            "committee",
            "Committee",
            "Fits several networks from different first weights and lets them disagree.",
            "Seung et al. 1992; Lakshminarayanan et al. 2017; source C",
            "When fitting is cheap: each round takes as many fits as there are members.",
            (_integer("members", 5, 2, 50, "Networks K, each fitted on its own."),),
        ),
    ),
)

ACQUISITIONS = Group(
    "acquisition",
    "Acquisition",
    (
        Choice(
            "entropy",
            "Entropy",
            "Asks about the images whose predicted class is most open, over all classes.",
            "Shannon 1948; Settles 2009, section 3.1",
            "A good default for a handful of classes.",
        ),
        Choice(
            "margin",
            "Margin",
            "Asks where the two likeliest classes are closest.",
            "Scheffer et al. 2001",
            "When classes are confused in pairs, or there are many of them.",
        ),
        Choice(
            "least_confidence",
            "Least confidence",
            "Asks where the likeliest class is least likely.",
            "Lewis and Gale 1994",
            "To reproduce published runs; close to entropy for few classes.",
        ),
        Choice(
            "random",
            "Random",
            "Asks about images drawn uniformly.",
            "The baseline that every strategy has to beat",
            "As the baseline, and whenever labels should be a fair sample of the pool.",
        ),
        Choice(
            "variation_ratio",
            "Variation ratio",
            "Asks where the fewest posterior samples vote for the favourite class.",
            "Freeman 1965; query by committee (Seung et al. 1992); source C",
            "With a committee, or another posterior of several samples.",
            least_samples=2,
        ),
        Choice(
            "bald",
            "BALD",
            "Asks where the posterior samples are each sure but disagree: there an answer says most about the weights.",
            "Houlsby et al. 2011; Gal et al. 2017; source B",
            "With a posterior of several samples, and when some images are unclear to everybody.",
            least_samples=2,
        ),
        Choice(
            "redundancy",
            "Redundancy",
            "Asks about images least like the rest of the pool, whatever is predicted.",
            "Warm-started active learning (source A)",
            "To see the edges of a pool; rarely the best on its own.",
        ),
        Choice(
            "entropy_redundancy",
            "Entropy less redundancy",
            "Asks where the predicted class is open and few other images look alike.",
            "Warm-started active learning (source A), its hybrid",
            "For a pool in which many images are nearly the same.",
            (_number("alpha", 5.0, 0.0, 100.0, "Entropy in nats that an average likeness of 1 takes away."),),
        ),
        Choice(
            "information_density",
            "Information density",
            "Asks where the prediction is open and many other images look alike.",
            "Settles and Craven 2008; the informativeness of source D",
            "For a pool with outliers that are not worth a label.",
            (
                _one_of("uncertainty", ("entropy", "margin", "least_confidence"), "What is weighted by the density."),
                _number("beta", 1.0, 0.0, 10.0, "Power of the density; 0 leaves the uncertainty alone."),
            ),
        ),
        Choice(
            "kmeans_boundary",
            "Cluster boundaries",
            "Asks about images halfway between two clusters of the features.",
            "k-means on features (source B)",
            "When predictions are not to be trusted yet.",
            (_integer("clusters", 12, 2, 1000, "Clusters k; never fewer than classes, nor more than images."),),
        ),
    ),
)

SELECTIONS = Group(
    "selection",
    "Batch selection",
    (
        Choice(
            "top_k",
            "Highest scores",
            "Takes the images with the highest scores.",
            "All sources",
            "Small batches, or a pool without near duplicates.",
        ),
        Choice(
            "k_center",
            "Core-set (k-centre)",
            "Takes the image farthest from all that is labelled or chosen, again and again; scores play no part.",
            "Gonzalez 1985; Sener and Savarese 2018",
            "Large batches that should cover the whole pool.",
        ),
        Choice(
            "badge",
            "BADGE",
            "Draws images whose gradients would be large and far apart (k-means++); scores play no part.",
            "Ash et al. 2020",
            "Large batches that should be both uncertain and diverse.",
        ),
        Choice(
            "typiclust",
            "Typical of each cluster",
            "Clusters labelled and open images, and takes the most typical image of each cluster without a label.",
            "Hacohen, Dekel and Weinshall 2022",
            "The first few dozen labels, when uncertainty means little yet.",
            (
                _integer("neighbours", 20, 1, 1000, "Nearest neighbours that typicality is measured by."),
                _integer("most_clusters", 500, 1, 10_000, "Most clusters made, however many labels there are."),
                _integer("most_images", 20_000, 100, 1_000_000, "Most open images clustered; of more, a drawn part."),
            ),
        ),
        Choice(
            "cluster_margin",
            "Highest scores of each cluster",
            "Clusters the highest scores (k-means) and takes the image in the middle of each cluster.",
            "Zhdanov 2019; Citovsky et al. 2021; batch mode of source D",
            "Batches that should follow the score without asking the same thing twice.",
            (_number("widen", 10.0, 1.0, 1000.0, "Images clustered, as a multiple of the batch."),),
        ),
        Choice(
            "batch_bald",
            "BatchBALD",
            "Takes the batch whose answers together say most about the parameters; needs a posterior of samples.",
            "Kirsch, van Amersfoort and Gal 2019",
            "Small batches (up to about 10) with mc_dropout, laplace or committee.",
            (
                _integer("shortlist", 1000, 1, 100_000, "Highest scores among which the batch is chosen."),
                _integer("configurations", 4000, 1, 100_000, "Joint answers that are counted; of more, a drawn part."),
            ),
            least_samples=2,
        ),
        Choice(
            "power",
            "Noisy scores",
            "Shakes the ranking by noise, so that the batch is a draw that favours high scores.",
            "Kirsch et al. 2023 (stochastic batch acquisition); Kool et al. 2019",
            "Large batches of similar scores, or when every image should have a known chance.",
            (
                _one_of("form", ("power", "softmax", "softrank"), "Chance by score^s, exp(s score) or rank^-s."),
                _number("sharpness", 1.0, 0.0, 100.0, "The s in the chance: 0 draws uniformly."),
            ),
        ),
    ),
)

_TRAINING = (
    _one_of("views", ("auto", "digits", "photos"), "How images are changed: photos are mirrored and tinted too."),
    _one_of("class_weights", ("none", "balanced"), "Let rare classes count as much as frequent ones."),
    _one_of(
        "temperature",
        ("off", "validation", "cross_fit"),
        "Correct over-confidence on the validation labels, or by fitting three more times to two thirds of the labels.",
    ),
)

FITTINGS = Group(
    "fitting",
    "Fitting",
    (
        Choice(
            "supervised",
            "Labels only",
            "Fits the network to the labelled images, from scratch or from the previous round's weights.",
            "Adam (Kingma and Ba 2015) with early stopping and learning-rate reduction (source A)",
            "Always available.",
            (
                _one_of("start", ("scratch", "warm"), "Begin each round from new weights or the last round's."),
                _integer("epochs", 60, 1, 1000, "Most passes over the labelled images in a round."),
                _integer("minibatch", 32, 1, 4096, "Images per gradient step."),
                _integer(
                    "least_steps", 4, 1, 1000, "Fewest gradient steps in an epoch; few labels are gone through again."
                ),
                _number("learning_rate", 0.002, 1e-6, 1.0, "Adam's first step size."),
                _number("weight_decay", 0.0001, 0.0, 1.0, "Pull of all weights towards zero (L2)."),
                _integer("patience", 12, 1, 1000, "Epochs without improvement before fitting stops."),
                _integer("reduce_after", 5, 1, 1000, "Epochs without improvement before the learning rate is halved."),
                _number("validation_share", 0.0, 0.0, 0.5, "Share of the labels kept aside to decide when to stop."),
                _switch("augment", True, "Change the images a little while fitting; never with a frozen trunk."),
                *_TRAINING,
                _one_of(
                    "trunk",
                    ("trained", "frozen"),
                    "Frozen: keep the features as they began, read each image once, and fit only the head.",
                ),
            ),
        ),
        Choice(
            "consistency",
            "Labels and pool",
            "Also learns from the pool: what is sure of a slightly changed image has to hold when it is changed a lot.",
            "FixMatch (Sohn et al. 2020) with averaged weights (Tarvainen and Valpola 2017)",
            "A few labels a class and many unlabelled images; takes minutes a round on a CPU.",
            (
                _one_of("start", ("scratch", "warm"), "Begin each round from new weights or the last round's."),
                _integer("epochs", 30, 1, 1000, "Passes in a round, of at least least_steps gradient steps each."),
                _integer("minibatch", 32, 1, 4096, "Labelled images per gradient step."),
                _integer("unlabelled_minibatch", 128, 2, 4096, "Images of the pool per gradient step."),
                _integer("least_steps", 50, 1, 1000, "Fewest gradient steps in an epoch."),
                _number("learning_rate", 0.002, 1e-6, 1.0, "Adam's first step size; it falls along a cosine."),
                _number("weight_decay", 0.0001, 0.0, 1.0, "Pull of all weights towards zero (L2)."),
                _number("threshold", 0.95, 0.0, 1.0, "Least confidence at which the network's own answer is taken."),
                _number("unlabelled_weight", 1.0, 0.0, 100.0, "How much the pool counts beside the labels."),
                _number(
                    "average", 0.99, 0.0, 0.9999, "Share of the averaged weights kept at a step; 0 for no average."
                ),
                _number("validation_share", 0.0, 0.0, 0.5, "Share of the labels kept aside to choose the best epoch."),
                *_TRAINING,
            ),
        ),
    ),
)

GROUPS: tuple[Group, ...] = (NETWORKS, POSTERIORS, ACQUISITIONS, SELECTIONS, FITTINGS)

SIZES: tuple[Parameter, ...] = (
    _integer("batch_size", 20, 1, 10_000, "Images asked about in one round."),
    _integer("seed_set", 20, 1, 10_000, "First images, asked about before there is a network."),
    _integer("image_side", 16, 4, 512, "Pixels per side at which the network sees the images."),
    _one_of(
        "cold_start", ("random", "clusters"), "First images: drawn, or the most typical of each cluster of pixels."
    ),
    _number(
        "random_share", 0.1, 0.0, 1.0, "Share of the queries drawn uniformly, as a fair sample; 0 for published runs."
    ),
    _number(
        "duplicate_similarity",
        0.999,
        0.9,
        1.0,
        "Images at least this alike (cosine of features) enter a batch once; 1 lets all in.",
    ),
    _integer("seed", 0, 0, 2**31 - 1, "Start of every random draw: same seed, same data, same batches."),
)


@dataclass(frozen=True)
class Pick:
    """One choice of a group with all its parameters filled in."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def integer(self, name: str) -> int:
        """Return a parameter that the catalogue types as a whole number."""
        return int(self.parameters[name])

    def number(self, name: str) -> float:
        """Return a parameter that the catalogue types as a number."""
        return float(self.parameters[name])

    def switch(self, name: str) -> bool:
        """Return a parameter that the catalogue types as a switch."""
        return bool(self.parameters[name])

    def text(self, name: str) -> str:
        """Return a parameter that the catalogue types as one of several words."""
        return str(self.parameters[name])

    def as_json(self) -> dict[str, Value]:
        """Return the pick as it is stored: its name beside its parameters."""
        return {"name": self.name, **self.parameters}


@dataclass(frozen=True)
class Recipe:
    """All choices of how a project learns and asks."""

    network: Pick
    posterior: Pick
    acquisition: Pick
    selection: Pick
    fitting: Pick
    batch_size: int
    seed_set: int
    image_side: int
    cold_start: str
    random_share: float
    duplicate_similarity: float
    seed: int

    def __post_init__(self) -> None:
        samples = posterior_samples(self.posterior)
        for group, pick in ((ACQUISITIONS, self.acquisition), (SELECTIONS, self.selection)):
            least = group.choice(pick.name).least_samples
            if samples < least:
                reason = (
                    f"{pick.name} compares {least} or more posterior samples and {self.posterior.name} has {samples}"
                )
                raise RecipeError(group.name, reason, f"use another {group.name}, or as posterior: {_sampling()}")

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as JSON that ``parse_recipe`` reads back to an equal recipe."""
        picks = {group.name: getattr(self, group.name).as_json() for group in GROUPS}
        return {**picks, **{size.name: getattr(self, size.name) for size in SIZES}}


def posterior_samples(posterior: Pick) -> int:
    """Return S, the samples that a posterior draws: its ``samples`` or ``members``, else the point estimate alone."""
    return int(posterior.parameters.get("samples", posterior.parameters.get("members", 1)))


def parse_recipe(given: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe; whatever is not given takes the catalogue's default.

    Args:
        given: group names mapped to a name or to ``{"name": ..., parameter: value}``, and sizes mapped to numbers.
    Raises:
        RecipeError: an unknown group, name, parameter or value, or choices that cannot work together; the message names
            the one to change and lists what is known.
    """
    given = given or {}
    known = [group.name for group in GROUPS] + [size.name for size in SIZES]
    for name in given:
        if name not in known:
            raise RecipeError(name, "a recipe has no such part", f"use any of: {_listed(known)}")
    parts: dict[str, Any] = {group.name: parse_pick(group, given.get(group.name)) for group in GROUPS}
    for size in SIZES:
        parts[size.name] = size.parse(given.get(size.name, size.default), size.name)
    return Recipe(**parts)


def parse_pick(group: Group, given: object) -> Pick:
    """Read one group's pick from a name, from ``{"name": ..., parameter: value}`` or, for None, the default.

    Raises:
        RecipeError: an unknown name, parameter or value.
    """
    if given is None:
        given = {}
    elif isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        raise RecipeError(group.name, f"{given!r} is not a choice", 'use a name, or {"name": ..., parameter: value}')
    choice = group.choice(given.get("name", group.choices[0].name))
    known = {parameter.name: parameter for parameter in choice.parameters}
    for name in given:
        if name != "name" and name not in known:
            remedy = f"use any of: {_listed(known)}" if known else f"{choice.name} takes no parameters"
            raise RecipeError(f"{group.name}.{name}", f"{choice.name} has no such parameter", remedy)
    values = {
        name: parameter.parse(given.get(name, parameter.default), f"{group.name}.{name}")
        for name, parameter in known.items()
    }
    return Pick(choice.name, values)


def _parse_switch(value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    match str(value).strip().lower():
        case "true" | "on" | "yes" | "1":
            return True
        case "false" | "off" | "no" | "0" | "":
            return False
    raise RecipeError(where, f"{value!r} is neither on nor off", "use true or false")


def _sampling() -> str:
    """Names of the posteriors of more than one sample."""
    sampling = {"samples", "members"}
    return _listed(
        choice.name for choice in POSTERIORS.choices if sampling & {parameter.name for parameter in choice.parameters}
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _shown(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}" if abs(bound) < 1e6 else f"{bound:.0f}"
