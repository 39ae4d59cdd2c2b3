"""Properties of the order of samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtrain_trainer.config.shares import LONGEST_PERIOD, SHORT_PERIOD, distortion, whole_shares
from llmtrain_trainer.data.mixing.order import Mixture, interleave, permute, shuffled
from llmtrain_trainer.data.packing import pack

untimed = settings(deadline=None)  # the machine may be busy
weights = st.lists(st.sampled_from([0.01, 0.1, 0.3, 0.7, 1.0, 2.5, 10.0]), min_size=1, max_size=7)


@untimed
@given(weights)
def test_each_dataset_is_within_one_of_its_share_after_any_number_of_samples(given_weights: list[float]) -> None:
    quotas = np.array(whole_shares(given_weights))
    count = 2 * quotas.sum() + 3
    datasets, _ = Mixture(given_weights).at(np.arange(count))
    had = np.cumsum(datasets[:, None] == np.arange(len(quotas)), axis=0)
    ideal = np.arange(1, count + 1)[:, None] * quotas / quotas.sum()
    assert np.abs(had - ideal).max() < 1


@untimed
@given(weights)
def test_shares_are_the_weights(given_weights: list[float]) -> None:
    shares = np.array(whole_shares(given_weights)) / sum(whole_shares(given_weights))
    np.testing.assert_allclose(shares, np.array(given_weights) / sum(given_weights), atol=2 / SHORT_PERIOD)


@untimed
@given(weights, st.integers(0, 10_000))
def test_ordinals_of_a_dataset_count_up_without_a_gap(given_weights: list[float], start: int) -> None:
    mixture = Mixture(given_weights)
    datasets, ordinals = mixture.at(start + np.arange(500))
    for i in range(len(given_weights)):
        own = ordinals[datasets == i]
        assert (np.diff(own) == 1).all()
    first_datasets, first_ordinals = mixture.at(np.arange(start))
    for i in set(datasets.tolist()):
        assert ordinals[datasets == i][0] == (first_datasets == i).sum() == len(first_ordinals[first_datasets == i])


def test_weights_without_a_small_common_denominator_still_give_every_dataset_its_turn() -> None:
    shares = whole_shares([0.712345678, 0.287654321, 1e-9])
    assert min(shares) == 1
    assert sum(shares) <= LONGEST_PERIOD + 2


@pytest.mark.parametrize("small", [1e-6, 1e-5, 1e-4, 3.7e-4, 0.012345])
def test_a_small_weight_gets_its_share_and_no_more(small: float) -> None:
    assert max(distortion([1.0, small])) <= 0.05
    datasets, _ = Mixture([1.0, small]).at(np.arange(4_000_000))
    assert (datasets == 1).sum() == pytest.approx(4_000_000 * small / (1 + small), rel=0.05, abs=1)


@untimed
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6))
def test_the_assignment_is_tijdemans(quotas: list[int]) -> None:
    """As he states it: at each place, of the datasets that are behind by enough, the one whose deadline comes first."""
    period, slack, given_places = sum(quotas), 2 * len(quotas) - 2, [0] * len(quotas)
    places, before = interleave(quotas)
    for place in range(period):
        owed = [slack * (quota * (place + 1) - period * had) for quota, had in zip(quotas, given_places, strict=True)]
        due = [i for i in range(len(quotas)) if owed[i] >= period]
        chosen = min(due, key=lambda i: (Fraction((slack - 1) * period - owed[i], quotas[i]), i))
        assert (places[place], before[place]) == (chosen, given_places[chosen])
        given_places[chosen] += 1


@untimed
@given(st.integers(1, 3000), st.integers(0, 2**31 - 1), st.integers(0, 50))
def test_a_permutation_visits_every_index_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permute(np.arange(size), size, (seed, 0, epoch)).tolist()) == list(range(size))


@untimed
@given(st.integers(1, 300), st.integers(1, 5))
def test_each_epoch_visits_each_row_once(size: int, epochs: int) -> None:
    rows = shuffled(np.arange(size * epochs), size, seed=3, dataset=1).reshape(epochs, size)
    assert (np.sort(rows, axis=1) == np.arange(size)).all()


def test_epochs_datasets_and_seeds_have_orders_of_their_own() -> None:
    ordinals = np.arange(1000)
    orders = [shuffled(ordinals, 1000, seed, dataset) for seed in (1, 2) for dataset in (0, 1)] + [shuffled(ordinals + 1000, 1000, 1, 0)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).mean() < 0.02  # two random orders agree in one place of a thousand


def test_the_order_is_the_one_that_checkpoints_were_made_with() -> None:
    """A changed constant would move every running job to other data."""
    assert permute(np.arange(17), 17, (1, 0, 0)).tolist()[:8] == [11, 14, 15, 0, 8, 7, 9, 10]
    assert Mixture([0.7, 0.3]).at(np.arange(10))[0].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("size", [1, 2, 1000, 10**12])
def test_any_place_costs_the_same_however_far(size: int) -> None:
    rows = shuffled(np.array([10**15, 10**15 + 1]), size, seed=1, dataset=0)
    assert ((rows >= 0) & (rows < size)).all()


@untimed
@given(st.lists(st.integers(1, 64), max_size=200))
def test_packing_keeps_every_sample_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = pack(lengths, 64)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 64 for row in rows)


@untimed
@given(st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_packing_leaves_at_most_one_row_half_empty(lengths: list[int]) -> None:
    rows = pack(lengths, 64)
    assert sum(sum(lengths[i] for i in row) <= 32 for row in rows) <= 1
