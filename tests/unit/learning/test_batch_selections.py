"""Batch selections against their definitions in plain float64, and against scikit-activeml's where it has them."""

import itertools
import math

import numpy as np
import pytest
import torch

from app.errors import RecipeError
from tests.unit.learning.test_selections import make_features, make_log_probs, make_scored, make_scores, select
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.selections import SELECTIONS
from worker.learning.selections.badge import GradientEmbeddings, badge
from worker.learning.selections.batch_bald import batch_bald
from worker.learning.selections.cluster_margin import cluster_margin
from worker.learning.selections.k_center import k_center
from worker.learning.selections.power import power, power_logits
from worker.learning.selections.typiclust import typicality, typiclust


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def nothing(count):
    return torch.zeros(count, dtype=torch.bool)


# k-centre


def naive_k_center(features, labelled, pending, count):
    centres = [np.asarray(one, dtype=np.float64) for one in labelled]
    centres += [features[row] for row in range(len(features)) if pending[row]]
    chosen = []
    for _ in range(count):
        gaps = [min(float(np.sum((one - centre) ** 2)) for centre in centres) for one in features]
        free = [row for row in range(len(features)) if not pending[row] and row not in chosen]
        best = max(free, key=lambda row: (gaps[row], -row))
        chosen.append(best)
        centres.append(features[best])
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_k_center_is_the_farthest_first_traversal(seed):
    features, labelled = make_features(60, 5, seed), make_features(4, 5, seed + 50)
    pending = nothing(60)
    pending[[3, 20]] = True
    found = k_center(features, make_scores(60), pending, labelled, 20).tolist()
    assert found == naive_k_center(features.double().numpy(), labelled.double().numpy(), pending.tolist(), 20)


def test_k_center_agrees_with_scikit_activeml():
    from skactiveml.pool import CoreSet

    features, labelled = make_features(120, 6), make_features(8, 6, seed=1)
    answers = np.concatenate([np.full(120, np.nan), np.zeros(8)])
    theirs = CoreSet(random_state=0).query(torch.cat([features, labelled]).double().numpy(), answers, batch_size=30)
    assert k_center(features, make_scores(120), nothing(120), labelled, 30).tolist() == theirs.tolist()


def test_k_center_begins_with_the_highest_score_where_there_is_no_centre():
    scores, features = make_scores(30), make_features(30)
    found = k_center(features, scores, nothing(30), features[:0], 3).tolist()
    assert found[0] == int(scores.argmax())
    assert found[1] == int((features - features[found[0]]).square().sum(1).argmax())


def test_k_center_takes_copies_of_a_centre_last():
    features = torch.tensor([[5.0], [0.0], [0.0], [9.0]])
    assert k_center(features, torch.zeros(4), nothing(4), torch.zeros(1, 1), 4).tolist() == [3, 0, 1, 2]


def test_k_center_covers_at_most_twice_as_coarsely_as_the_best():
    features = make_features(12, 2, seed=3)
    gaps = torch.cdist(features, features)
    best = min(float(gaps[:, list(centres)].min(1).values.max()) for centres in itertools.combinations(range(12), 3))
    found = k_center(features, make_scores(12), nothing(12), features[:0], 3)
    assert best <= float(gaps[:, found].min(1).values.max()) <= 2 * best


# BADGE


def naive_gradients(log_probs, features):
    """N x C*D gradients of the cross-entropy of the likeliest class with respect to the last layer, by autograd."""
    gradients = []
    for logits, one in zip(log_probs.double(), features.double(), strict=True):
        weights = torch.zeros(len(logits), len(one), dtype=torch.float64, requires_grad=True)
        loss = torch.nn.functional.cross_entropy((weights @ one + logits)[None], logits.argmax()[None])
        [gradient] = torch.autograd.grad(loss, weights)
        gradients.append(gradient.flatten())
    return torch.stack(gradients)


def test_factorised_gaps_are_those_of_the_gradients():
    log_probs, features = make_log_probs(40, samples=1)[0], make_features(40, 6)
    gradients, embedded = naive_gradients(log_probs, features), GradientEmbeddings.of(log_probs, features)
    torch.testing.assert_close(embedded.squares_N.double(), gradients.square().sum(1), rtol=1e-5, atol=1e-7)
    for row in (0, 17):
        expected = (gradients - gradients[row]).square().sum(1)
        torch.testing.assert_close(embedded.squared_gaps(row).double(), expected, rtol=1e-4, atol=1e-6)


def naive_badge(gradients, pending, count, generator):
    """k-means++ on materialised gradients, drawing by the same uniform numbers."""
    chosen = [int(np.argmax(np.where(pending, -1, (gradients**2).sum(1))))]
    while len(chosen) < count:
        weights = np.min([((gradients - gradients[row]) ** 2).sum(1) for row in chosen], axis=0)
        weights[pending] = 0
        at = torch.rand((), generator=generator, dtype=torch.float64).item() * weights.sum()
        chosen.append(int(np.searchsorted(np.cumsum(weights), at, side="right")))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_badge_is_k_means_plus_plus_on_the_gradients(seed):
    log_probs, features = make_log_probs(80, samples=1, seed=seed)[0], make_features(80, 5, seed)
    gradients = naive_gradients(log_probs, features).numpy()
    expected = naive_badge(gradients, np.zeros(80, dtype=bool), 25, seeded(seed))
    assert badge(log_probs, features, nothing(80), 25, seeded(seed)).tolist() == expected


def test_badge_draws_by_the_same_chances_as_scikit_activeml():
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    log_probs, features = make_log_probs(50, samples=1)[0], make_features(50, 5)

    class Told(SkactivemlClassifier):
        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return log_probs.double().exp().numpy()

    theirs, chances = Badge(random_state=0).query(
        features.double().numpy(), np.full(50, np.nan), Told(), fit_clf=False, batch_size=12, return_utilities=True
    )
    ours = GradientEmbeddings.of(log_probs, features)
    assert badge(log_probs, features, nothing(50), 1, seeded()).tolist() == theirs[:1]
    for rank in range(1, 12):
        # They count the origin as a centre; the authors of BADGE do not.
        gaps = [ours.squares_N, *(ours.squared_gaps(row) for row in theirs[:rank])]
        weights = torch.stack(gaps).min(0).values.double()
        np.testing.assert_allclose((weights / weights.sum()).numpy(), np.nan_to_num(chances[rank]), atol=1e-6)


def test_badge_stays_away_from_pending_gradients():
    log_probs = torch.tensor([[0.5, 0.5]]).log().expand(3, 2)
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    pending = torch.tensor([True, False, False])
    assert badge(log_probs, features, pending, 2, seeded()).tolist() == [2, 1]


def test_badge_refuses_predictions_that_are_not_finite():
    log_probs = make_log_probs(4, samples=1)[0]
    log_probs[1, 2] = math.nan
    with pytest.raises(NotFiniteError, match="log_probs_NC"):
        badge(log_probs, make_features(4), nothing(4), 2, seeded())


# TypiClust


def naive_typicality(features, neighbours):
    found = []
    for row, one in enumerate(features):
        gaps = sorted(float(np.linalg.norm(one - other)) for place, other in enumerate(features) if place != row)
        found.append(len(gaps[:neighbours]) / sum(gaps[:neighbours]))
    return found


@pytest.mark.parametrize(("count", "neighbours"), [(2, 20), (15, 4), (15, 14), (15, 40)])
def test_typicality_is_the_inverse_mean_gap_to_the_nearest(count, neighbours):
    features = make_features(count, 3)
    expected = naive_typicality(features.double().numpy(), neighbours)
    np.testing.assert_allclose(typicality(features, neighbours).numpy(), expected, rtol=1e-4)


def test_typicality_agrees_with_scikit_activeml():
    from skactiveml.pool._typi_clust import _typicality

    features = make_features(40, 3)
    np.testing.assert_allclose(
        typicality(features, 5).numpy(), _typicality(features.double().numpy(), np.arange(40), 5), rtol=1e-4
    )


def test_one_image_alone_and_copies_have_a_typicality():
    assert typicality(torch.rand(1, 3), 5).tolist() == [1.0]
    assert torch.isfinite(typicality(torch.ones(4, 3), 5)).all()


def make_heaps(sizes, seed=0):
    centres = 30 * torch.eye(len(sizes))
    return torch.cat(
        [
            centre + torch.randn(size, len(sizes), generator=seeded(seed + place))
            for place, (centre, size) in enumerate(zip(centres, sizes, strict=True))
        ]
    )


def test_the_most_typical_of_each_cluster_comes_first_the_largest_cluster_first():
    sizes = [10, 30, 20]
    features = make_heaps(sizes)
    heaps = [list(range(10)), list(range(10, 40)), list(range(40, 60))]
    largest_first = sorted(heaps, key=len, reverse=True)
    expected = [heap[int(np.argmax(naive_typicality(features[heap].double().numpy(), 20)))] for heap in largest_first]
    assert typiclust(features, nothing(60), 3, 3, seeded()).tolist() == expected


def test_clusters_that_know_a_label_wait_for_those_that_do_not():
    features = make_heaps([10, 30, 20])
    known = nothing(60)
    known[15] = True
    # Three heaps and four clusters: one heap is cut in two, but none that knows a label is asked about before the rest.
    found = typiclust(features, known, 2, 59, seeded(), most_clusters=3).tolist()
    assert [0 if row < 10 else 1 if row < 40 else 2 for row in found[:2]] == [2, 0]
    assert sorted([*found, 15]) == list(range(60))


def test_clusters_of_a_few_outliers_wait():
    features = torch.cat([make_heaps([20, 20]), torch.full((3, 2), -300.0)])
    found = typiclust(features, nothing(43), 3, 3, seeded()).tolist()
    assert not set(found[:2]) & {40, 41, 42}
    assert typiclust(features, nothing(43), 3, 43, seeded())[-3:].sort().values.tolist() == [40, 41, 42]


def test_typiclust_ranks_a_drawn_part_of_a_large_pool_and_the_rest_by_score():
    scores = make_scores(300)
    parameters = {"see": "network", "neighbours": 5, "most_clusters": 50, "most_images": 100}
    found = select("typiclust", scores, 300, parameters=parameters, batch_size=10)
    assert sorted(found) == list(range(300))
    assert found[100:] == sorted(found[100:], key=lambda row: -scores[row])


# Clusters of the highest scores


def test_cluster_margin_takes_the_middle_of_each_cluster_of_the_highest_scores():
    features = torch.cat([make_heaps([12, 8, 10]), torch.full((20, 3), 99.0)])
    scores = torch.cat([0.5 + make_scores(30), torch.zeros(20)])
    found = cluster_margin(scores, features, nothing(50), 3, seeded(), batch=3, widen=10).tolist()
    heaps = [list(range(12)), list(range(12, 20)), list(range(20, 30))]
    middles = [min(heap, key=lambda row: float((features[row] - features[heap].mean(0)).norm())) for heap in heaps]
    assert found == sorted(middles, key=lambda row: -scores[row])


def test_cluster_margin_without_widening_is_the_highest_scores():
    scores = make_scores(40)
    found = cluster_margin(scores, make_features(40), nothing(40), 15, seeded(), batch=6, widen=1).tolist()
    assert found == scores.sort(descending=True).indices[:15].tolist()


def test_cluster_margin_fills_a_batch_up_by_score_where_images_are_alike():
    features = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0]])
    scores = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1])
    assert cluster_margin(scores, features, nothing(5), 4, seeded(), batch=4).tolist() == [0, 3, 1, 2]


# BatchBALD


def naive_joint_information(probs_SNC, batch):
    """I(y_1 .. y_b; theta) by enumeration of all joint answers."""
    samples, _, classes = probs_SNC.shape
    joint, own = 0.0, 0.0
    for answers in itertools.product(range(classes), repeat=len(batch)):
        chance = np.mean(
            [math.prod(probs_SNC[s, n, c] for n, c in zip(batch, answers, strict=True)) for s in range(samples)]
        )
        joint -= chance * math.log(chance) if chance else 0.0
    for n in batch:
        for s in range(samples):
            own -= sum(p * math.log(p) for p in probs_SNC[s, n] if p) / samples
    return joint - own


def naive_batch_bald(probs_SNC, count):
    chosen = []
    for _ in range(count):
        rest = [row for row in range(probs_SNC.shape[1]) if row not in chosen]
        chosen.append(max(rest, key=lambda row: naive_joint_information(probs_SNC, [*chosen, row])))
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_batch_bald_is_the_greedy_joint_mutual_information(seed):
    log_probs = make_log_probs(14, samples=4, classes=3, seed=seed).double().log_softmax(-1)
    log_probs[0, 5] = torch.tensor([0.0, -math.inf, -math.inf])
    probs = log_probs.exp().numpy()
    found, gains = batch_bald(log_probs, 4, seeded())
    assert found.tolist() == naive_batch_bald(probs, 4)
    for size in range(1, 5):
        expected = naive_joint_information(probs, found[:size].tolist())
        assert float(gains[:size].sum()) == pytest.approx(expected, abs=1e-10)


def test_batch_bald_takes_the_first_by_bald_and_never_the_same_information_twice():
    log_probs = make_log_probs(20, samples=8)
    log_probs[:, 7] = log_probs[:, 3]
    found, gains = batch_bald(log_probs, 20, seeded())
    probs = log_probs.double().exp()
    mean = probs.mean(0)
    bald = -(mean * mean.log()).sum(1) + (probs * probs.log()).sum(2).mean(0)
    assert int(found[0]) == int(bald.argmax())
    assert float(gains[0]) == pytest.approx(float(bald.max()))
    assert gains[:4].diff().max() <= 1e-12
    assert sorted(found.tolist()) == list(range(20))


def test_many_images_are_looked_at_as_if_each_were():
    log_probs = make_log_probs(700, samples=5, classes=3)
    probs = log_probs.double().exp()
    found, gains = batch_bald(log_probs, 4, seeded())
    chosen = found.tolist()
    for rank in (1, 3):
        weights = torch.ones(1, 5, dtype=torch.float64)
        for row in chosen[:rank]:
            weights = (weights[:, None] * probs[:, row].T).flatten(0, 1)
        chances = weights.mean(1)
        given = torch.einsum("ms,snc->mnc", weights / weights.sum(1, keepdim=True), probs)
        own = (probs * probs.log()).sum(2).mean(0)
        all_gains = -torch.einsum("m,mnc->n", chances, given * given.log()) + own
        all_gains[chosen[:rank]] = -1
        assert int(all_gains.argmax()) == chosen[rank]
        assert float(gains[rank]) == pytest.approx(float(all_gains.max()))


def test_drawn_configurations_estimate_the_exact_gains():
    log_probs = make_log_probs(30, samples=6, classes=5, seed=4)
    exact, exact_gains = batch_bald(log_probs, 6, seeded(), configurations=5**6)
    estimates = torch.stack(
        [batch_bald(log_probs[:, exact], 6, seeded(seed), configurations=500)[1] for seed in range(8)]
    )
    assert float(estimates[:, :3].std(0).max()) == 0
    assert float(estimates.sum(1).mean()) == pytest.approx(float(exact_gains.sum()), rel=0.01)
    found, _ = batch_bald(log_probs, 6, seeded(), configurations=2000)
    assert naive_joint_information(log_probs.double().exp().numpy(), found.tolist()[:4]) == pytest.approx(
        float(exact_gains[:4].sum()), rel=0.01
    )


def test_long_batches_of_batch_bald_stay_finite():
    log_probs = make_log_probs(120, samples=10, classes=10)
    found, gains = batch_bald(log_probs, 100, seeded(), configurations=200)
    assert len(set(found.tolist())) == 100
    assert torch.isfinite(gains).all()
    # What ten samples can be told apart by is at most log 10.
    assert 0.9 * math.log(10) < float(gains.sum()) < 1.1 * math.log(10)
    assert float(gains.min()) >= -1e-12


def test_batch_bald_chooses_among_the_highest_scores():
    scores = make_scores(50)
    parameters = {"shortlist": 10, "configurations": 1000}
    highest = scores.sort(descending=True).indices[:10].tolist()
    found = select("batch_bald", scores, 20, parameters=parameters, batch_size=4)
    assert set(found[:4]) <= set(highest)
    log_probs = make_log_probs(50)[:, sorted(highest)]
    assert found[:4] == [sorted(highest)[place] for place in batch_bald(log_probs, 4, seeded())[0]]
    assert found[4:] == [row for row in scores.sort(descending=True).indices.tolist() if row not in found[:4]][:16]


def test_a_single_sample_is_told_what_to_choose_instead():
    alone = make_log_probs(6, samples=1)
    scored = make_scored("batch_bald", make_scores(6), 3, read_log_probs=lambda positions: alone[:, positions])
    with pytest.raises(RecipeError, match="choose a posterior of several samples"):
        SELECTIONS.get("batch_bald").select(scored)
    with pytest.raises(ShapeError, match=r"expected shape \[S >= 2, N, C >= 2\], got \[1, 6, 4\]"):
        batch_bald(alone, 2, seeded())


# Noisy scores


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("power", [1.0, 16.0, 0.0, 1.0]),
        ("softmax", [math.exp(2), math.exp(8), 1.0, math.exp(2)]),
        ("softrank", [1 / 4, 1.0, 1 / 16, 1 / 4]),
    ],
)
def test_weights_are_those_of_the_form(form, expected):
    weights = power_logits(torch.tensor([1.0, 4.0, 0.0, 1.0]), form, 2.0).exp()
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-12)


def test_negative_scores_are_raised_by_the_lowest():
    weights = power_logits(torch.tensor([-1.0, -0.25, 0.5]), "power", 1.0).exp()
    np.testing.assert_allclose(weights.numpy(), [0.0, 0.75, 1.5], atol=1e-12)


def test_images_are_drawn_in_turns_by_their_weights():
    logits, generator = torch.tensor([1.0, 3.0, 6.0]).double().log(), seeded()
    drawn = torch.stack([power(logits, nothing(3), 2, generator) for _ in range(4000)])
    pairs = {(2, 1): 0.45, (2, 0): 0.15, (1, 2): 1.8 / 7, (1, 0): 0.3 / 7, (0, 2): 0.2 / 3, (0, 1): 0.1 / 3}
    for pair, chance in pairs.items():
        share = float((drawn == torch.tensor(pair)).all(1).double().mean())
        assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 4000))


def test_without_sharpness_the_draw_is_uniform_and_with_much_it_follows_the_scores():
    scores = make_scores(12)
    assert power_logits(scores, "softmax", 0.0).unique().tolist() == [0.0]
    batch = select("power", scores, 12, parameters={"form": "softmax", "sharpness": 1e6})
    assert batch == scores.sort(descending=True).indices.tolist()


def test_what_a_selection_needs_and_is_not_given_is_told():
    with pytest.raises(ValueError, match="needs features"):
        select("k_center", make_scores(4), 2, features_ND=None)
    with pytest.raises(ValueError, match="needs predictions"):
        select("badge", make_scores(4), 2, log_probs_NC=None)
    with pytest.raises(ValueError, match="needs posterior samples"):
        select("batch_bald", make_scores(4), 2, read_log_probs=None)
    features = make_features(4)
    features[2, 1] = math.inf
    with pytest.raises(NotFiniteError, match="features_ND"):
        select("top_k", make_scores(4), 2, features_ND=features)
