"""Fittings that can be chosen: how a network learns from labels."""

from __future__ import annotations

from app.recipes.choices import Choice, Group, integer, number, one_of, switch

_TRAINING = (
    one_of("views", ("auto", "digits", "photos"), "How images are changed: photos are mirrored and tinted too."),
    one_of("class_weights", ("none", "balanced"), "Let rare classes count as much as frequent ones."),
    one_of(
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
            "Adam (Kingma and Ba 2015) with early stopping and learning-rate reduction (source A), averaged weights "
            "(Tarvainen and Valpola 2017)",
            "Always available.",
            (
                one_of("start", ("scratch", "warm"), "Begin each round from new weights or the last round's."),
                integer("epochs", 60, 1, 1000, "Most passes over the labelled images in a round."),
                integer("minibatch", 32, 1, 4096, "Images per gradient step."),
                integer(
                    "least_steps", 4, 1, 1000, "Fewest gradient steps in an epoch; few labels are gone through again."
                ),
                number("learning_rate", 0.002, 1e-6, 1.0, "Adam's first step size."),
                number("weight_decay", 0.0001, 0.0, 1.0, "Pull of all weights towards zero (L2)."),
                number("average", 0.0, 0.0, 0.9999, "Share of the averaged weights kept at a step; 0 for no average."),
                integer("patience", 12, 1, 1000, "Epochs without improvement before fitting stops."),
                integer("reduce_after", 5, 1, 1000, "Epochs without improvement before the learning rate is halved."),
                number("validation_share", 0.0, 0.0, 0.5, "Share of the labels kept aside to decide when to stop."),
                one_of(
                    "stop_by",
                    ("loss", "accuracy"),
                    "What has to improve on the labels kept aside; by accuracy, what a fit begins with counts too.",
                ),
                switch("augment", True, "Change the images a little while fitting; never with a frozen trunk."),
                *_TRAINING,
                one_of(
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
                one_of("start", ("scratch", "warm"), "Begin each round from new weights or the last round's."),
                integer("epochs", 30, 1, 1000, "Passes in a round, of at least least_steps gradient steps each."),
                integer("minibatch", 32, 1, 4096, "Labelled images per gradient step."),
                integer("unlabelled_minibatch", 128, 2, 4096, "Images of the pool per gradient step."),
                integer("least_steps", 50, 1, 1000, "Fewest gradient steps in an epoch."),
                number("learning_rate", 0.002, 1e-6, 1.0, "Adam's first step size; it falls along a cosine."),
                number("weight_decay", 0.0001, 0.0, 1.0, "Pull of all weights towards zero (L2)."),
                number("threshold", 0.95, 0.0, 1.0, "Least confidence at which the network's own answer is taken."),
                number("unlabelled_weight", 1.0, 0.0, 100.0, "How much the pool counts beside the labels."),
                number("average", 0.99, 0.0, 0.9999, "Share of the averaged weights kept at a step; 0 for no average."),
                number("validation_share", 0.0, 0.0, 0.5, "Share of the labels kept aside to choose the best epoch."),
                *_TRAINING,
            ),
        ),
    ),
)
