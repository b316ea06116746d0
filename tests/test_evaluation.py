"""Scores counted by hand, ten crops as the mean of probabilities (fact A7), and networks through files."""

import numpy as np
import pytest

import minicnn
from minicnn import backend, data, evaluation, nn, saving
from minicnn.models import alexnet


class Fixed(nn.Module):
    """Logits that are the image's first row of pixels, as they come in."""

    def forward(self, x):
        return minicnn.tensor(x.numpy()[:, 0, :, 0])


RAW = data.ChannelStatistics(mean=(0.0,), covariance=((1 / 255**2,),))  # normalised pixels are the bytes themselves


def images(rows):
    """Images (N, 6, 6, 1) whose first rows these are."""
    rows = np.asarray(rows, np.uint8)
    return np.repeat(rows[:, None, :, None], 6, axis=1)


def test_score_counts_first_and_first_five():
    rows = [[9, 1, 2, 3, 4, 5], [9, 1, 2, 3, 4, 5], [9, 1, 2, 3, 4, 5]]
    score = evaluation.score(Fixed(), data.ArrayDataset(images(rows), [0, 2, 1]), RAW, backend.device("cpu"))
    assert (score.count, score.correct, score.correct5) == (3, 1, 2)
    chances = np.exp(np.array(rows[0], float)) / np.exp(np.array(rows[0], float)).sum()
    assert score.loss == pytest.approx(-np.log(chances[[0, 2, 1]]).mean(), rel=1e-5)


def test_of_equal_chances_the_first_counts_as_for_predict():
    score = evaluation.score(
        Fixed(), data.ArrayDataset(images([[7, 7, 0, 0, 0, 0]] * 2), [0, 1]), RAW, backend.device("cpu")
    )
    assert score.correct == 1


def test_ten_crops_average_probabilities_not_logits():
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 9, (3, 8, 8, 1)).astype(np.uint8)
    views = data.ten_crops(batch, 6)
    got = evaluation.probabilities(Fixed(), views, RAW, backend.device("cpu"))
    logits = views[:, :, 0, :, 0].astype(float)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(got, softmax.mean(axis=1), rtol=1e-5)
    of_mean = np.exp(logits.mean(axis=1)) / np.exp(logits.mean(axis=1)).sum(axis=1, keepdims=True)
    assert np.abs(got - of_mean).max() > 0.01


def test_the_linear_yardstick_beats_chance_and_knows_its_place():
    splits = data.open("fashion-mnist-12k")
    some = data.Splits("some", data.Subset(splits.train, np.arange(0, 9000, 6)))
    accuracy = evaluation.linear_classifier(some, splits.test, epochs=3)
    assert 0.7 < accuracy < 0.86


def test_save_and_load_give_the_same_network(tmp_path):
    network = alexnet(num_classes=4, image_size=28, in_channels=1)
    minicnn.save(network, tmp_path / "x.safetensors")
    again = minicnn.load(tmp_path / "x.safetensors", device="cpu")
    assert saving.identity(again) == saving.identity(network)
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])


def test_a_module_of_ones_own_cannot_be_built_from_a_file(tmp_path):
    minicnn.save(nn.Linear(2, 3), tmp_path / "x.safetensors")
    with pytest.raises(minicnn.CheckpointError, match=r"holds a Module of your own: build it, then load_state_dict"):
        minicnn.load(tmp_path / "x.safetensors")


def test_weights_alone_cannot_be_evaluated(tmp_path):
    minicnn.save(alexnet(num_classes=4, image_size=28, in_channels=1), tmp_path / "x.safetensors")
    with pytest.raises(minicnn.CheckpointError, match=r"holds weights alone, not those of a training run"):
        minicnn.evaluate(tmp_path / "x.safetensors", device="cpu")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match=r"^unknown protocol 'centre': choose one of center, ten-crop$"):
        minicnn.evaluate("runs/alexnet", protocol="centre")


def test_equal_chances_are_no_merit_and_what_is_no_number_is_last():
    labels = np.array([0, 1, 2, 2])
    chances = np.array([[0.2, 0.2, 0.2], [0.2, 0.2, 0.1], [0.3, 0.1, 0.3], [np.nan] * 3])
    assert evaluation.places_of(labels, chances).tolist() == [0, 1, 1, 2]
    assert evaluation.places_of(np.array([1]), np.array([[0.1, 0.7, 0.2]])).tolist() == [0]
