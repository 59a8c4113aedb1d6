import numpy as np
import pytest
import torch

from app.recipes import ACQUISITIONS as CHOICES
from app.recipes import parse_pick
from tests.unit.learning.factories import CPU, make_blobs
from tests.unit.learning.test_posteriors import make_posterior
from worker.learning.acquisitions import ACQUISITIONS, Acquisition, Evidence, Sight
from worker.learning.errors import NotFiniteError, ShapeError
from worker.learning.posteriors import read_all
from worker.learning.scoring import explain_rows, score, score_rows

# At this side a chunk is sixteen images.
SIDE = 64


def score_images(acquisition, parameters=None, posterior="plugin", **options):
    images, _ = make_blobs(40, side=SIDE)
    rows = np.arange(40)[::-1].copy()
    posterior, generator = make_posterior(posterior, side=SIDE), torch.Generator().manual_seed(3)
    pool = score_rows(
        acquisition, parameters or {}, posterior, images, rows, generator=generator, device=CPU, **options
    )
    return pool, read_all(posterior, images, rows, CPU)


@pytest.mark.parametrize("name", ACQUISITIONS.names())
@pytest.mark.parametrize("keep_features", [True, False])
def test_scores_of_chunks_are_those_of_the_whole(name, keep_features):
    acquisition, parameters = ACQUISITIONS.get(name), parse_pick(CHOICES, name).parameters
    posterior = "plugin" if CHOICES.choice(name).least_samples == 1 else {"name": "mc_dropout", "samples": 4}
    pool, reading = score_images(acquisition, parameters, posterior, keep_features=keep_features)
    evidence = Evidence(40, torch.Generator().manual_seed(3), parameters, reading)
    torch.testing.assert_close(pool.scores_N, score(acquisition, evidence))
    if keep_features:
        torch.testing.assert_close(pool.features_ND, reading.features_ND)
    else:
        assert pool.features_ND is None


def test_an_acquisition_of_the_pool_sees_all_of_it_at_once():
    own = Acquisition(Sight.POOL, lambda evidence: evidence.seen.features_ND.mean(0).sum().expand(40))
    pool, reading = score_images(own)
    torch.testing.assert_close(pool.scores_N, reading.features_ND.mean(0).sum().expand(40))


def test_an_acquisition_of_the_pool_is_shown_the_mean_of_the_samples():
    own = Acquisition(Sight.POOL, lambda evidence: evidence.seen.log_probs_SNC.exp().squeeze(0)[:, 1])
    pool, reading = score_images(own, posterior={"name": "mc_dropout", "samples": 4})
    torch.testing.assert_close(pool.scores_N, reading.log_probs_SNC.exp().mean(0)[:, 1])


def test_an_acquisition_of_images_never_sees_more_than_a_chunk():
    counts = []

    def count_images(evidence):
        counts.append(evidence.seen.log_probs_SNC.shape[1])
        return torch.zeros(evidence.count)

    score_images(Acquisition(Sight.IMAGE, count_images))
    assert counts == [16, 16, 8]


@pytest.mark.parametrize("name", ACQUISITIONS.names())
def test_an_empty_pool_has_no_scores_and_no_reasons(name):
    acquisition, parameters = ACQUISITIONS.get(name), parse_pick(CHOICES, name).parameters
    images, none = make_blobs(3)[0], np.empty(0, np.int64)
    posterior, generator = make_posterior("plugin"), torch.Generator()
    pool = score_rows(
        acquisition, parameters, posterior, images, none, generator=generator, device=CPU, keep_features=True
    )
    reasons = explain_rows(acquisition, posterior, images, none, device=CPU)
    assert pool.scores_N.shape == (0,)
    assert pool.features_ND is not None and len(pool.features_ND) == 0
    assert reasons.top_classes_K2.shape == reasons.top_probs_K2.shape == (0, 2)
    assert pool.classes_N is None and pool.mean_entropy is None
    guessed = score_rows(
        acquisition, parameters, posterior, images, none, generator=generator, device=CPU, keep_guesses=True
    )
    assert (guessed.classes_N.shape, guessed.confidences_N.shape) == ((0,), (0,))


def test_progress_is_told_after_each_chunk():
    told = []
    score_images(ACQUISITIONS.get("entropy"), progress=lambda *done: told.append(done))
    assert told == [(16, 40), (32, 40), (40, 40)]


def test_a_score_that_is_not_finite_is_refused():
    own = Acquisition(Sight.IMAGE, lambda evidence: torch.full((evidence.count,), torch.nan))
    with pytest.raises(NotFiniteError, match="a score is NaN or infinite"):
        score_images(own)


def test_other_than_one_score_an_image_is_refused():
    own = Acquisition(Sight.IMAGE, lambda evidence: torch.zeros(evidence.count, 1))
    with pytest.raises(ShapeError, match=r"scores_N: expected shape \[16\], got \[16, 1\]"):
        score_images(own)


@pytest.mark.parametrize("name", ["random", "entropy", "redundancy"])
@pytest.mark.parametrize("posterior", ["plugin", {"name": "mc_dropout", "samples": 4}])
def test_guesses_and_entropy_of_chunks_are_those_of_the_whole(name, posterior):
    acquisition, parameters = ACQUISITIONS.get(name), parse_pick(CHOICES, name).parameters
    pool, reading = score_images(acquisition, parameters, posterior, keep_guesses=True)
    probs_NC = reading.log_probs_SNC.double().exp().mean(0)
    assert torch.equal(pool.classes_N, probs_NC.argmax(1))
    torch.testing.assert_close(pool.confidences_N, probs_NC.amax(1).float())
    assert pool.mean_entropy == pytest.approx(float(torch.special.entr(probs_NC).sum(1).mean()), rel=1e-5)
    assert (pool.classes_N.shape, pool.confidences_N.dtype) == ((40,), torch.float32)


def test_a_pool_is_read_for_its_guesses_only_if_they_are_wanted():
    acquisition, told = ACQUISITIONS.get("random"), []
    unread, _ = score_images(acquisition, progress=lambda *done: told.append(done))
    assert (unread.classes_N, unread.confidences_N, unread.mean_entropy) == (None, None, None)
    assert told == [(40, 40)]
    read, _ = score_images(acquisition, keep_guesses=True)
    torch.testing.assert_close(read.scores_N, unread.scores_N)
    without, _ = score_images(ACQUISITIONS.get("margin"))
    assert without.classes_N is None and without.mean_entropy > 0


def test_reasons_are_the_likeliest_classes_and_the_formulas_own_numbers():
    images, _ = make_blobs(20)
    posterior, rows = make_posterior("plugin"), np.array([11, 4])
    reasons = explain_rows(ACQUISITIONS.get("margin"), posterior, images, rows, device=CPU)
    probs = read_all(posterior, images, rows, CPU).log_probs_SNC[0].exp()
    expected = probs.sort(dim=1, descending=True)
    torch.testing.assert_close(reasons.top_probs_K2, expected.values[:, :2])
    assert torch.equal(reasons.top_classes_K2, expected.indices[:, :2])
    torch.testing.assert_close(reasons.parts["margin"], expected.values[:, 0] - expected.values[:, 1])
