"""Acquisitions that can be chosen: the score of an image, higher = ask sooner."""

from __future__ import annotations

from app.recipes.choices import Choice, Group, integer, number, one_of

ACQUISITIONS = Group(
    "acquisition",
    "Acquisition",
    (
        Choice(
            "margin",
            "Margin",
            "Asks where the two likeliest classes are closest.",
            "Scheffer et al. 2001",
            "A good default: never far below random, with few classes or many.",
        ),
        Choice(
            "entropy",
            "Entropy",
            "Asks about the images whose predicted class is most open, over all classes.",
            "Shannon 1948; Settles 2009, section 3.1",
            "When all classes are alike and the network is well calibrated.",
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
            (number("alpha", 5.0, 0.0, 100.0, "Entropy in nats that an average likeness of 1 takes away."),),
        ),
        Choice(
            "information_density",
            "Information density",
            "Asks where the prediction is open and many other images look alike.",
            "Settles and Craven 2008; the informativeness of source D",
            "For a pool with outliers that are not worth a label.",
            (
                one_of("uncertainty", ("entropy", "margin", "least_confidence"), "What is weighted by the density."),
                number("beta", 1.0, 0.0, 10.0, "Power of the density; 0 leaves the uncertainty alone."),
            ),
        ),
        Choice(
            "kmeans_boundary",
            "Cluster boundaries",
            "Asks about images halfway between two clusters of the features.",
            "k-means on features (source B)",
            "When predictions are not to be trusted yet.",
            (integer("clusters", 12, 2, 1000, "Clusters k; never fewer than classes, nor more than images."),),
        ),
    ),
)
