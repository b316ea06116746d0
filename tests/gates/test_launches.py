"""What is one pass over memory is one launch: the kernels that each op, and what is fused into it, launch each way."""

import numpy as np
import pytest

import minicnn
from gates import launches, names
from gates.launches import numbers
from minicnn import functional as F
from minicnn import nn, optim
from minicnn.ops.prepare_images import PrepareImages


def launched(device, run):
    return [names.base_name(launch.kernel) for launch in launches.record(device, lambda _: run()).launches]


def convolution(device, *then, channels=16, **options):
    """Of an image that needs a gradient, with a bias, ReLU and what comes then behind it."""
    layers = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, **options), nn.ReLU(), *then).to(device)
    return lambda: layers(numbers(device, 1, 6, 6, channels))


def in_bfloat16(run):
    """Whose arrays come from outside, in float32."""

    def in_precision():
        with minicnn.precision("bfloat16"):
            return run()

    return in_precision


def fully_connected(device):
    layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5)).to(device)
    return lambda: layers(numbers(device, 8, 64))


def loss(device):
    return lambda: F.cross_entropy(numbers(device, 8, 16), minicnn.tensor(np.arange(8), device=device))


def image(device, function):
    return lambda: function(numbers(device, 1, 6, 6, 16))


def addition(device):
    return lambda: F.add_relu(numbers(device, 4, 16), numbers(device, 4, 16))


# An op: the kernels of its forward pass, and of its backward pass, in the order in which they are launched.
PASSES = {
    "conv2d": (
        convolution,
        ["conv2d_forward_kernel"],
        ["relu_backward_kernel", "conv2d_backward_input_kernel", "conv2d_backward_weight_kernel"],
    ),
    "conv2d_at_stride_2": (
        lambda device: convolution(device, stride=2),
        ["conv2d_forward_kernel"],
        ["relu_backward_kernel", *["conv2d_backward_input_kernel"] * 4, "conv2d_backward_weight_kernel"],
    ),
    "conv2d_and_pooling": (
        lambda device: convolution(device, nn.MaxPool2d(2)),
        ["conv2d_maxpool2d_forward_kernel"],
        ["maxpool2d_backward_kernel", "conv2d_backward_input_kernel", "conv2d_backward_weight_kernel"],
    ),
    "conv2d_and_pooling_in_16_bits": (
        lambda device: in_bfloat16(convolution(device, nn.MaxPool2d(2))),
        ["narrow_kernel", "narrow_kernel", "conv2d_maxpool2d_forward_tensor_core_kernel"],
        [
            *("narrow_kernel", "maxpool2d_backward_kernel", "conv2d_backward_input_tensor_core_kernel"),
            *("widen_kernel", "conv2d_backward_weight_tensor_core_kernel"),
        ],
    ),
    "first_layer": (
        lambda device: convolution(device, channels=3),
        ["conv2d_first_layer_fold_kernel", "conv2d_first_layer_forward_kernel"],
        None,
    ),
    "max_pooling": (
        lambda device: image(device, lambda x: F.max_pool2d(x, 3, 2)),
        ["maxpool2d_forward_kernel"],
        ["maxpool2d_backward_kernel"],
    ),
    "average_pooling": (
        lambda device: image(device, lambda x: F.avg_pool2d(x, 3, 2)),
        ["average_forward_kernel"],
        ["average_backward_kernel"],
    ),
    "normalisation_across_channels": (
        lambda device: image(device, lambda x: F.local_response_norm(x, 5)),
        ["lrn_forward_kernel"],
        ["lrn_backward_kernel"],
    ),
    "fully_connected": (fully_connected, ["dropout_draw_kernel", "gemm_5_pipelined_kernel", "sum_parts_kernel"], None),
    "cross_entropy": (
        loss,
        ["cross_entropy_forward_kernel", "cross_entropy_reduce_kernel"],
        ["cross_entropy_backward_kernel"],
    ),
    "addition_and_relu": (addition, ["add_relu_forward_kernel"], ["add_relu_backward_kernel"]),
}


@pytest.mark.parametrize(("make", "forward", "backward"), PASSES.values(), ids=PASSES.keys())
def test_a_pass_is_as_few_launches(make, forward, backward, emulated_device):
    run, made = make(emulated_device), []
    assert launched(emulated_device, lambda: made.append(run())) == forward
    dy = np.ones(made[0].shape, np.float32)
    seen = launched(emulated_device, lambda: made[0].backward(dy))
    if backward is not None:
        assert seen == backward


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_step_is_one_launch_for_all_layers(make, emulated_device):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(128, 16), nn.Linear(16, 4)).to(emulated_device)
    optimizer = make(model.parameters(), lr=0.1)
    model(numbers(emulated_device, 1, 6, 6, 3)).sum().backward()
    (kernel,) = launched(emulated_device, optimizer.step)
    assert kernel in ("sgd_step_kernel", "adam_step_kernel")


def test_a_batch_is_prepared_by_one_launch(emulated_device):
    pixels = minicnn.tensor(np.zeros((2, 9, 9, 3), np.uint8), device=emulated_device)
    windows = minicnn.tensor(np.array([[0, 0, 1, 0], [1, 1, 0, 1]]), device=emulated_device)
    constants = [numbers(emulated_device, *shape, requires_grad=False) for shape in ((3,), (2, 3))]
    prepare = PrepareImages(8, 8)
    assert launched(emulated_device, lambda: prepare(pixels, windows, *constants)) == ["prepare_images_kernel"]
