"""Batch selections that can be chosen: from scores to a ranking."""

from __future__ import annotations

from app.recipes.choices import Choice, Group, integer, number, one_of

SELECTIONS = Group(
    "selection",
    "Batch selection",
    (
        Choice(
            "hedge",
            "Highest scores, and looks without a label",
            "Part of the batch as cluster_margin, part the most typical images of clusters without a label, by edges "
            "and pixels; the fewer labels, the more by looks.",
            "Ours; typiclust beside cluster_margin (Doucet et al. 2024 change from the one to the other)",
            "The default: with few labels scores mean little, and a network can be sure of a mistake and never ask.",
            (
                number(
                    "share", 0.0, 0.0, 1.0, "Part of the batch that looks choose in the end, whatever the network says."
                ),
                number(
                    "looks_until",
                    10.0,
                    0.0,
                    1000.0,
                    "Labels for each class until which looks choose more: all at first, evenly falling to the share.",
                ),
                number("widen", 10.0, 1.0, 1000.0, "Images clustered by score, as a multiple of their part."),
                integer("most_images", 20_000, 100, 1_000_000, "Most open images clustered by looks; of more, a part."),
            ),
        ),
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
                one_of(
                    "see",
                    ("network", "looks"),
                    "Cluster what the network sees, or what images look like without it: edges and pixels.",
                ),
                integer("neighbours", 20, 1, 1000, "Nearest neighbours that typicality is measured by."),
                integer("most_clusters", 500, 1, 10_000, "Most clusters made, however many labels there are."),
                integer("most_images", 20_000, 100, 1_000_000, "Most open images clustered; of more, a drawn part."),
            ),
        ),
        Choice(
            "cluster_margin",
            "Highest scores of each cluster",
            "Clusters the highest scores (k-means) and takes the image in the middle of each cluster.",
            "Zhdanov 2019; Citovsky et al. 2021; batch mode of source D",
            "Batches that should follow the score without asking the same thing twice.",
            (number("widen", 10.0, 1.0, 1000.0, "Images clustered, as a multiple of the batch."),),
        ),
        Choice(
            "batch_bald",
            "BatchBALD",
            "Takes the batch whose answers together say most about the parameters; needs a posterior of samples.",
            "Kirsch, van Amersfoort and Gal 2019",
            "Small batches (up to about 10) with mc_dropout, laplace or committee.",
            (
                integer("shortlist", 1000, 1, 100_000, "Highest scores among which the batch is chosen."),
                integer("configurations", 4000, 1, 100_000, "Joint answers that are counted; of more, a drawn part."),
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
                one_of("form", ("power", "softmax", "softrank"), "Chance by score^s, exp(s score) or rank^-s."),
                number("sharpness", 1.0, 0.0, 100.0, "The s in the chance: 0 draws uniformly."),
            ),
        ),
    ),
)
