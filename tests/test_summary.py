"""Summary: what it counts, that it leaves the model as it was, and the calculator of receptive fields."""

import json

import numpy as np
import pytest

import minicnn
from minicnn import models, nn
from minicnn.summary import Machine, memory, receptive_field, summary


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 4, 5))


def test_rows_are_the_innermost_layers_in_the_order_of_their_run(network):
    rows = summary(network, (2, 7, 9, 3)).rows
    assert [(row.path, row.layer, row.out_shape) for row in rows] == [
        ("0", "Conv2d", (2, 3, 4, 8)),
        ("1", "ReLU", (2, 3, 4, 8)),
        ("2", "Flatten", (2, 96)),
        ("3", "Linear", (2, 5)),
    ]
    assert [row.parameters for row in rows] == [8 * 27 + 8, 0, 0, 5 * 96 + 5]
    assert [row.macs for row in rows] == [2 * 3 * 4 * 8 * 27, 0, 0, 2 * 96 * 5]
    assert [row.activation_bytes for row in rows] == [4 * 2 * 96, 0, 0, 4 * 2 * 5]


def test_totals(network):
    counted = summary(network, (2, 7, 9, 3))
    assert counted.parameters == 8 * 27 + 8 + 5 * 96 + 5
    assert counted.macs == 2 * 3 * 4 * 8 * 27 + 2 * 96 * 5
    assert counted.flops == 2 * counted.macs
    assert counted.activation_bytes == 4 * 2 * (7 * 9 * 3 + 96 + 5)


@pytest.mark.parametrize(
    ("options", "macs"),
    [({"groups": 2}, 36 * 6 * 4 * 9 // 2), ({"dilation": 2}, 16 * 6 * 4 * 9), ({"stride": 2}, 9 * 6 * 4 * 9)],
    ids=["groups", "dilation", "stride"],
)
def test_every_option_of_a_convolution_counts(options, macs):
    assert summary(nn.Conv2d(4, 6, 3, **options), (1, 8, 8, 4)).macs == macs


def test_a_layer_used_twice_has_two_rows_and_its_parameters_once_in_the_total():
    layer = nn.Linear(4, 4)
    counted = summary(nn.Sequential(layer, layer), (1, 4))
    assert [(row.path, row.parameters) for row in counted.rows] == [("0", 20), ("0", 20)]
    assert counted.parameters == 20 and counted.macs == 32


def test_the_model_is_left_as_it_was(network):
    network[1].eval()
    counted = summary(network, (1, 7, 9, 3))
    assert [module.training for module in network] == [True, False, True, True]
    with pytest.raises(minicnn.OpError):
        summary(network, (1, 8, 20, 3))
    assert [module.training for module in network] == [True, False, True, True]
    network(minicnn.tensor(np.zeros((1, 7, 9, 3), np.float32)))
    assert len(counted.rows) == 4


def test_it_runs_where_the_model_is(network, device):
    assert summary(network.to(device), (1, 7, 9, 3)).macs == 3 * 4 * 8 * 27 + 96 * 5
    assert network[0].weight.device is device


def test_a_network_of_ours_knows_its_input():
    network = models.alexnet(num_classes=10, image_size=28, in_channels=1)
    assert summary(network) == summary(network, (1, 28, 28, 1))
    with pytest.raises(
        ValueError, match=r"^summary: say the shape of the input that this Linear reads, \(N, H, W, C\)$"
    ):
        summary(nn.Linear(3, 4))


def test_a_model_without_parameters():
    counted = summary(nn.ReLU(), (1, 2))
    assert (counted.parameters, counted.macs, counted.activation_bytes) == (0, 0, 8)


def test_the_table(network):
    lines = str(summary(network, (1, 7, 9, 3))).splitlines()
    assert lines[0].strip() == "Sequential: x (1, 7, 9, 3)"
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
    rows = [row[:8] for row in cells if len(row) == 9]
    assert ["layer", "", "output", "parameters", "MACs", "FLOPs", "activations", "sees"] in rows
    assert ["0", "Conv2d", "(1, 3, 4, 8)", "224", "2,592", "5,184", "384 B", "3"] in rows
    assert ["1", "ReLU", "(1, 3, 4, 8)", "", "", "", "", "3"] in rows
    assert ["3", "Linear", "(1, 5)", "485", "480", "960", "20 B", "all"] in rows
    assert ["total", "", "", "709", "3,072", "6,144", "1.1 KiB", ""] in rows
    shares = [row[8] for row in cells if len(row) == 9]
    assert shares[0] == "floor" and shares[3] == "" and shares[-1].endswith(" ms")
    assert sum(float(share.removesuffix("%")) for share in shares if share.endswith("%")) == pytest.approx(100, abs=0.2)
    assert lines[-1] == "floor: a training step at the ceilings of H100 SXM by its data sheet"
    assert not any(line.endswith(" ") or "\x1b" in line for line in lines)


@pytest.mark.parametrize(("count", "text"), [(0, ""), (1023, "1023 B"), (1024, "1.0 KiB"), (60955136, "58.1 MiB")])
def test_memory_in_words(count, text):
    assert memory(count) == text


def span_of_influence(network, size) -> int:
    """From the first to the last row of the image that changes the middle output: the receptive field, by trying."""
    changing = []
    with minicnn.no_grad():
        before = network(minicnn.tensor(np.ones((1, size, size, 1), np.float32))).numpy()
        middle = tuple(extent // 2 for extent in before.shape[1:3])
        for row in range(size):
            x = np.ones((1, size, size, 1), np.float32)
            x[:, row] = 2
            if network(minicnn.tensor(x)).numpy()[0][middle] != before[0][middle]:
                changing.append(row)
    return changing[-1] - changing[0] + 1


FIELDS = {
    "one": ([(5, 1, 1)], 5),
    "strides_multiply": ([(3, 2, 1), (3, 2, 1), (3, 1, 1)], 15),
    "dilation_spans": ([(3, 1, 2), (2, 1, 3)], 8),
}


@pytest.mark.parametrize(("layers", "field"), FIELDS.values(), ids=FIELDS)
def test_receptive_field_is_what_changes_an_output(layers, field):
    convs = [nn.Conv2d(1, 1, kernel, stride=stride, dilation=dilation) for kernel, stride, dilation in layers]
    assert receptive_field(convs) == field == span_of_influence(nn.Sequential(*convs), 33)


class Paths(nn.Module):
    """Two paths that meet in a sum, which is no layer, and a third that is joined to it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 5, padding=2), nn.MaxPool2d(3, 1, 1)
        self.join, self.last = nn.Concatenate(), nn.Conv2d(3, 1, 3, stride=2, padding=1)

    def forward(self, x):
        a = self.a(x)
        return self.last(self.join(minicnn.functional.relu(a + self.b(a)), self.c(x)))


def test_receptive_field_of_each_row_is_what_changes_an_output():
    model = Paths()
    for p in model.parameters():
        p.copy_(np.full(p.shape, 0.1))  # positive: no ReLU hides a path
    rows = summary(model, (1, 33, 33, 1)).rows
    assert [(row.path, row.receptive_field) for row in rows] == [("a", 3), ("b", 7), ("c", 3), ("join", 7), ("last", 9)]
    assert span_of_influence(model, 33) == 9


def test_receptive_field_of_averages_and_of_what_sees_all():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(2), nn.Conv2d(4, 4, 2))
    rows = summary(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2)), (1, 20, 20, 3)).rows
    assert [row.receptive_field for row in rows] == [3, 3 + 4 * 2, 3 + 4 * 2 + 5 * 2, None, None]


def test_the_floor_is_the_longer_of_operations_and_bytes_of_each_pass():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    weights, x, y, z = (16, 25), 2 * 3, 2 * 4, 2 * 5
    for flops, bandwidth in ((1.0, 1e9), (1e9, 1.0)):
        counted = summary(model, (2, 3), Machine("slow", flops, bandwidth))
        if flops == 1.0:  # operations: two a multiply-accumulate, and the first layer has no dx to compute
            expected = [4 * 24, 0.0, 6 * 40]
        else:  # bytes of x, w, y and of dy, x, w, dx, dw
            first = (x + weights[0] + y) + (y + x + 2 * weights[0])
            expected = [4 * first, 4 * 5 * y, 4 * ((y + weights[1] + z) + (z + 2 * y + 2 * weights[1]))]
        assert [row.floor_seconds for row in counted.rows] == pytest.approx(expected, abs=1e-6)
        assert counted.floor_seconds == pytest.approx(sum(expected), abs=1e-6)
        assert sum(map(counted.share, counted.rows)) == pytest.approx(1)
        assert counted.share(counted.rows[0]) == pytest.approx(expected[0] / sum(expected))


class Gate(nn.Module):
    """A layer of one's own with multiplications that only it knows of, and one that is used in training alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.parameter(np.ones(4, np.float32))

    def forward(self, x):
        return x * self.weight

    def macs(self, x_shape):
        return x_shape[0] * 4


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.extra = Gate(), nn.Linear(4, 2)

    def forward(self, x):
        return self.extra(self.gate(x)) if self.training else self.gate(x)


def test_a_module_of_ones_own():
    counted = minicnn.summary(Own(), (3, 4))
    assert [(row.path, row.macs, row.parameters, row.out_shape) for row in counted.rows] == [
        ("gate", 12, 4, (3, 4)),
        ("extra", 0, 10, ()),
    ]
    assert counted.parameters == 14 and "training only" in str(counted)


def test_everything_goes_into_json(network):
    counted = summary(network, (1, 7, 9, 3))
    read = json.loads(json.dumps(counted.as_dict()))
    assert read["total"] == {
        "parameters": 709,
        "macs": 3_072,
        "flops": 6_144,
        "activation_bytes": counted.activation_bytes,
        "floor_seconds": counted.floor_seconds,
    }
    assert read["input_shape"] == [1, 7, 9, 3] and read["machine"]["name"] == counted.machine.name
    first, last = read["layers"][0], read["layers"][-1]
    assert (first["path"], first["layer"], first["out_shape"]) == ("0", "Conv2d", [1, 3, 4, 8])
    assert (first["macs"], first["flops"], first["receptive_field"]) == (2_592, 5_184, 3)
    assert last["receptive_field"] is None
    assert sum(layer["floor_share"] for layer in read["layers"]) == pytest.approx(1)


def test_receptive_field_of_published_networks():
    assert receptive_field(models.alexnet(initialize=None).features) == 195
    assert receptive_field(models.vgg16(initialize=None).features) == 212
