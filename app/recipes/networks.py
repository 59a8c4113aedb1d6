"""Networks that can be chosen."""

from __future__ import annotations

from app.recipes.choices import Choice, Group, integer, number, one_of, switch

_FIRST_WEIGHTS = one_of(
    "weights", ("none", "imagenet"), "Begin from new weights, or from those published for ImageNet."
)

_FEATURE_DROPOUT = number(
    "dropout", 0.0, 0.0, 0.9, "Share of features silenced while fitting; above 0 for the posterior mc_dropout."
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
            (
                number("dropout", 0.5, 0.0, 0.9, "Share of hidden units silenced while fitting."),
                switch("batch_norm", True, "Normalise after each convolution; without, it learns slowly."),
                integer(
                    "feature_side",
                    4,
                    1,
                    4,
                    "Cells a side in which features are told apart, as far as the pools leave them: "
                    "1 gives 64 features, 2 from 32 pixels on 256, 4 from 64 pixels on 1,024.",
                ),
            ),
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
            (number("dropout", 0.2, 0.0, 0.9, "Share of hidden units silenced while fitting."),),
        ),
        Choice(
            "resnet18",
            "ResNet-18",
            "Residual network of 18 layers; up to 64 pixels its first layer keeps the resolution.",
            "He et al. 2016; deep active learning on MNIST and CIFAR-10 (source B)",
            "Small colour photos with a GPU, or larger ones with published weights.",
            (_FIRST_WEIGHTS, _FEATURE_DROPOUT),
        ),
        Choice(
            "resnet50",
            "ResNet-50",
            "Residual network of 50 layers and 2,048 features; up to 64 pixels its first layer keeps the resolution.",
            "He et al. 2016; pre-trained networks (source D)",
            "Photos with published weights and a GPU.",
            (_FIRST_WEIGHTS, _FEATURE_DROPOUT),
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
