"""Posteriors that can be chosen: who says how sure the network is."""

from __future__ import annotations

from app.recipes.choices import Choice, Group, integer, number, one_of

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
            (integer("samples", 100, 2, 1000, "Posterior samples S."),),
        ),
        Choice(
            "laplace",
            "Laplace",
            "Draws weights from the normal distribution that the curvature of the loss allows around the fitted ones.",
            "MacKay 1992; Daxberger et al. 2021; source A, corrected",
            "With any network, and labels kept aside (fitting.validation_share); without them it is far too unsure.",
            (
                integer("samples", 100, 2, 1000, "Posterior samples S."),
                one_of(
                    "weights",
                    ("last_layer", "all_weights"),
                    "Weights that are uncertain; the last layer alone costs one pass, all weights cost one a sample.",
                ),
                one_of(
                    "predictive",
                    ("linearised", "sampled"),
                    "Read samples by the network's slope at the fitted weights, or anew; alike for the last layer.",
                ),
                one_of(
                    "prior",
                    ("validation", "marginal_likelihood", "given"),
                    "What chooses the prior: the loss on labels kept aside (without any, as the next), the marginal "
                    "likelihood of all labels, or prior_precision.",
                ),
                number("prior_precision", 1.0, 1e-6, 1e6, "Pull of a given prior towards zero."),
            ),
        ),
        Choice(
            "committee",
            "Committee",
            "Fits several networks from different first weights and lets them disagree.",
            "Seung et al. 1992; Lakshminarayanan et al. 2017; source C",
            "When fitting is cheap: each round takes as many fits as there are members.",
            (integer("members", 5, 2, 50, "Networks K, each fitted on its own."),),
        ),
    ),
)
