"""Scores counted by hand, protocols by loops over their views (facts A7, A13, V7, V8), and networks through files."""

import numpy as np
import pytest
from PIL import Image

import minicnn
from minicnn import backend, data, evaluation, models, nn, report, saving
from minicnn.dense import fully_convolutional
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
    np.testing.assert_allclose(got, softmax(logits).mean(axis=1), rtol=1e-5)
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


CLASSES = ("heel", "sole", "toe")


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve colour images of three classes, 36x44 and 44x36 by turns."""
    root, rng = tmp_path_factory.mktemp("shoes"), np.random.default_rng(1)
    for name in CLASSES:
        (root / name).mkdir()
        for i in range(4):
            shape = (36, 44, 3) if i % 2 else (44, 36, 3)
            Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(root / name / f"{i}.png")
    return root


def saved_network(path, constructor=models.lenet, seed=0, size=28, classes=CLASSES):
    """A network with weights large enough to be sure of something, in a file as a run leaves it."""
    minicnn.manual_seed(seed)
    network = constructor(len(classes), size, 3)
    for layer in network.output_layers():
        nn.init.he_normal_(layer.weight, gain=2.0)
    statistics = data.ChannelStatistics((0.5, 0.4, 0.3), tuple(map(tuple, np.diag([0.04, 0.05, 0.06]).tolist())))
    minicnn.save(network, path, statistics=statistics, class_names=classes)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved_network(tmp_path_factory.mktemp("run") / "a.safetensors")


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    return saved_network(tmp_path_factory.mktemp("run") / "b.safetensors", seed=1)


def by_hand(path, images, look, dense=False):
    """Probabilities of the images, each view of each alone through the network: look(image) -> views."""
    saved = saving.load_run(path, "cpu")
    network = fully_convolutional(saved.network) if dense else saved.network
    mean, std = np.array(saved.statistics.mean), saved.statistics.std
    chances = []
    for image in images:
        views = [((view / 255 - mean) / std)[None].astype(np.float32) for view in look(image)]
        chances.append(np.mean([softmax(network(minicnn.tensor(view)).numpy()[0]) for view in views], axis=0))
    return np.array(chances)


def dense_look(image):
    return image, image[:, ::-1]


def grid_look(image, size=28):
    tops, lefts = ((np.arange(5) * (extent - size) / 4).round().astype(int) for extent in image.shape[:2])
    crops = [image[top : top + size, left : left + size] for top in tops for left in lefts]
    return crops + [crop[:, ::-1] for crop in crops]


def whole(folder, scale):
    return data.read_at(data.ImageFolder(folder), np.arange(12), scale, whole=True)


def scored(run, folder, protocol, **options):
    """(the report's only row, its probabilities as far as the loss tells them)"""
    found = evaluation.report([run], folder, protocol=[protocol], device="cpu", **options)
    return found.rows[0]


LABELS = np.repeat([0, 1, 2], 4)


def agree(row, chances):
    expected = report.Score.of(chances, LABELS)
    assert (row.score.correct, row.score.correct5) == (expected.correct, expected.correct5)
    assert row.score.loss == pytest.approx(expected.loss, rel=1e-5)
    np.testing.assert_array_equal(row.confusion, report.confusion(chances, LABELS))


def test_dense_is_the_mean_of_the_whole_image_and_its_mirror_image(run, folder):
    row = scored(run, folder, "dense", scales=[36])
    agree(row, by_hand(run, whole(folder, 36), dense_look, dense=True))
    assert (row.scales, row.views, row.protocol, row.network) == ((36,), 2, "dense", "lenet")


def test_multi_scale_is_the_mean_over_the_scales(run, folder):
    row = scored(run, folder, "multi-scale")
    assert (row.trained, row.scales, row.views) == ((28,), (28, 32, 36), 6)
    agree(row, np.mean([by_hand(run, whole(folder, q), dense_look, dense=True) for q in (28, 32, 36)], axis=0))


def test_multi_crop_is_the_mean_of_fifty_views_a_scale(run, folder):
    row = scored(run, folder, "multi-crop", scales=[32, 36])
    assert row.views == 100
    agree(row, np.mean([by_hand(run, whole(folder, q), grid_look) for q in (32, 36)], axis=0))


def test_dense_and_multi_crop_count_alike_however_many_their_views(run, folder):
    row = scored(run, folder, "dense+multi-crop", scales=[32])
    dense, crops = by_hand(run, whole(folder, 32), dense_look, True), by_hand(run, whole(folder, 32), grid_look)
    agree(row, (dense + crops) / 2)
    assert row.views == 52


def test_ten_crops_are_of_the_central_square(run, folder):
    squares = np.stack(data.read_at(data.ImageFolder(folder), np.arange(12), 32))
    agree(scored(run, folder, "ten-crop"), by_hand(run, squares, lambda image: data.ten_crops(image[None], 28)[0]))


def test_the_center_of_a_network_that_was_trained_on_crops(folder, tmp_path):
    """They were 34 pixels wide, of which it saw 28."""
    path = saved_network(tmp_path / "x.safetensors")
    arrays, described = minicnn.checkpoint.read(path)
    minicnn.checkpoint.write(path, arrays, described | {"scale": 34})
    row = scored(path, folder, "center")
    assert (row.trained, row.scales) == ((34,), (34,))
    squares = data.ImageFolder(folder, 34).images
    agree(row, by_hand(path, squares, lambda image: [image[3:31, 3:31]]))
    (ranking,) = minicnn.predict(path, [data.ImageFolder(folder).paths[0]], device="cpu", top=1)
    assert ranking[0][1] == pytest.approx(by_hand(path, squares[:1], lambda image: [image[3:31, 3:31]]).max(), rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 60])
def test_as_many_views_at_a_time_as_fit_change_nothing(run, folder, batch_size, monkeypatch):
    seen = []
    compute = evaluation.network_input

    def watched(batch, device):
        x = compute(batch, device)
        seen.append(x.size // x.shape[3])
        return x

    monkeypatch.setattr(evaluation, "network_input", watched)
    at_once = scored(run, folder, "dense+multi-crop", scales=[32], batch_size=1000)
    seen.clear()
    row = scored(run, folder, "dense+multi-crop", scales=[32], batch_size=batch_size)
    assert max(seen) <= max(batch_size * 28 * 28, 32 * 39)
    assert row.score.correct == at_once.score.correct
    assert row.score.loss == pytest.approx(at_once.score.loss, rel=1e-5)


def test_an_ensemble_is_the_mean_of_the_runs_probabilities(run, other_run, folder):
    found = evaluation.report([run, other_run], folder, protocol=["center", "dense"], scales=[32], device="cpu")
    assert [(row.label, row.protocol) for row in found.rows] == [
        *((str(run), "center"), (str(other_run), "center"), ("these 2 together", "center")),
        *((str(run), "dense"), (str(other_run), "dense"), ("these 2 together", "dense")),
    ]
    both = [by_hand(path, whole(folder, 32), dense_look, dense=True) for path in (run, other_run)]
    agree(found.rows[5], np.mean(both, axis=0))
    logarithms = np.exp(np.mean(np.log(both), axis=0))
    assert abs(report.Score.of(logarithms, LABELS).loss - found.rows[5].score.loss) > 1e-3  # it is no mean of logits
    score = minicnn.evaluate([run, other_run], folder, protocol="dense", scales=[32], device="cpu")
    assert score == found.rows[5].score


def test_a_folder_of_its_own_is_scored_whole(run, folder):
    found = evaluation.report([run], folder, device="cpu")
    assert (found.split, found.rows[0].score.count) == ("given", 12)


def test_the_report_is_a_table_of_errors_with_counts(run, folder):
    found = evaluation.report([run], folder, protocol=["center", "dense"], device="cpu")
    title, _, heading, rule, first, second = str(found).splitlines()
    assert title == f"{folder}: 12 given images, 3 classes"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (heading, first, second)]
    assert cells[0][1:] == [
        *("network", "train S", "protocol", "test Q", "views", "top-1 error (%)", "top-5 error (%)")
    ]
    wrong = 12 - found.rows[0].score.correct
    errors = [f"{100 * wrong / 12:.2f} ({wrong} of 12)", "0.00 (0 of 12)"]
    assert cells[1] == [str(run), "lenet", "28", "center", "28", "1", *errors]
    assert cells[2][3:6] == ["dense", "28", "2"]
    assert len({len(line) for line in (heading, rule, first, second)}) == 1


def test_recall_and_precision_by_class():
    chances = np.eye(4)[[0, 0, 1, 1, 1, 0, 1]]
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    matrix = report.confusion(chances, labels)
    np.testing.assert_array_equal(matrix, [[2, 1, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    row = report.Row(("x",), "net", (28,), "center", (28,), 1, report.Score.of(chances, labels), matrix)
    assert row.by_class("abcd") == [
        ("a", 3, 2 / 3, 2 / 3),
        ("b", 2, 1.0, 0.5),
        ("c", 2, 0.0, None),
        ("d", 0, None, None),
    ]
    table = report.Report("x", "test", tuple("abcd"), [row]).by_class(row)
    assert table.splitlines()[2:] == [
        "| a     |      3 |       66.7 |          66.7 |",
        "| b     |      2 |      100.0 |          50.0 |",
        "| c     |      2 |        0.0 |             - |",
        "| d     |      0 |          - |             - |",
    ]


def test_mistakes_are_refused_before_anything_is_computed(run, folder, tmp_path):
    with pytest.raises(ValueError, match=r"^unknown protocol 'centre': choose one of center, "):
        minicnn.evaluate(run, folder, protocol="centre", device="cpu")
    with pytest.raises(
        ValueError, match=r"^scale 20 is too small: the network sees 28 pixels of an image, its short side$"
    ):
        minicnn.evaluate(run, folder, protocol="dense", scales=[20], device="cpu")
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, got 0$"):
        minicnn.evaluate(run, folder, batch_size=0, device="cpu")
    stranger = saved_network(tmp_path / "x.safetensors", classes=("heel", "sole", "tongue"))
    message = rf"^{stranger} knows the classes heel, sole, tongue; {folder} has heel, sole, toe$"
    with pytest.raises(minicnn.CheckpointError, match=message):
        minicnn.evaluate([run, stranger], folder, device="cpu")
    with pytest.raises(
        ValueError, match=r"names no images of its own: pass data, the folder or name of those to score it on$"
    ):
        minicnn.evaluate(run, device="cpu")


def test_dense_evaluation_of_what_cannot_be_is_refused(folder, tmp_path):
    path = saved_network(tmp_path / "x.safetensors", models.lenet5)
    with pytest.raises(
        ValueError, match=r"^dense evaluation turns fully connected layers into convolutions; lenet5 has "
    ):
        minicnn.evaluate(path, folder, protocol="dense", device="cpu")


def test_equal_chances_are_no_merit_and_what_is_no_number_is_last():
    labels = np.array([0, 1, 2, 2])
    chances = np.array([[0.2, 0.2, 0.2], [0.2, 0.2, 0.1], [0.3, 0.1, 0.3], [np.nan] * 3])
    assert report.places_of(labels, chances).tolist() == [0, 1, 1, 2]
    assert report.places_of(np.array([1]), np.array([[0.1, 0.7, 0.2]])).tolist() == [0]
