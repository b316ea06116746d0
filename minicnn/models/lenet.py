"""LeNet-5, as it was published in 1998 and as textbooks have it.

lenet5  60,000 parameters: C3's filters read some maps only, by a table; the subsampling layers have a coefficient and a bias
        a map; a scaled tanh follows every layer up to F6; ten fixed codes of 84 elements are the centres of the output's
        radial basis functions. As logits are the negatives of the paper's penalties, cross-entropy is its criterion
        (equation 9) without the constant class that is none of the others (j = infinity)
lenet   61,706 parameters: every filter of the second convolution reads all maps, pooling has no parameters, the output is a
        fully connected layer

Images of less than 32 pixels are padded to that, as the paper's 28 are; of larger ones the maps are larger, and C5 reads the
whole of its map. There is one form, the published one.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE,
1998, section II.B and appendix A.
"""

from __future__ import annotations

import numpy as np

from minicnn import nn
from minicnn.models.network import Network, Stack, checked, constructor, he
from minicnn.nn import init
from minicnn.shapes import window_count

PUBLISHED_IMAGE = 32  # pixels

# Table I: which of S2's six maps (rows) each of C3's sixteen filters (columns) reads.
C3_READS = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)

# What F6's 84 units look like for each digit, 7 wide and 12 high: drawn in the manner of the paper's figure 3, not copied.
DIGITS = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..XXX..  ...X...  .XXXXX.  .XXXXX.  .....X.  XXXXXXX  ..XXXX.  XXXXXXX  .XXXXX.  .XXXXX.
.X...X.  ..XX...  X.....X  X.....X  ....XX.  X......  .X.....  ......X  X.....X  X.....X
X.....X  .X.X...  ......X  ......X  ...X.X.  X......  X......  .....X.  X.....X  X.....X
X.....X  ...X...  ......X  ......X  ..X..X.  X......  X......  .....X.  X.....X  X.....X
X.....X  ...X...  .....X.  ..XXXX.  .X...X.  XXXXXX.  XXXXXX.  ....X..  .XXXXX.  .XXXXXX
X.....X  ...X...  ....X..  ......X  X....X.  ......X  X.....X  ....X..  X.....X  ......X
X.....X  ...X...  ...X...  ......X  XXXXXXX  ......X  X.....X  ...X...  X.....X  ......X
.X...X.  ...X...  ..X....  X.....X  .....X.  X.....X  X.....X  ...X...  X.....X  .....X.
..XXX..  .XXXXX.  XXXXXXX  .XXXXX.  .....X.  .XXXXX.  .XXXXX.  ..X....  .XXXXX.  .XXXX..
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


def codes(num_classes: int) -> np.ndarray:
    """(num_classes, 84) of -1 and 1: the digits' pictures for ten classes, else random bits, always the same ones (the paper
    names them as a choice too)."""
    if num_classes == 10:
        rows = [line.split() for line in DIGITS.split("\n") if line]
        marks = np.array([[list(part) for part in row] for row in rows])  # (12 rows, 10 digits, 7 columns)
        return np.where(marks.transpose(1, 0, 2).reshape(10, 84) == "X", 1.0, -1.0)
    return np.random.default_rng(1998).choice([-1.0, 1.0], (num_classes, 84))


def padding_of(image_size: int) -> int:
    """What brings an image to 32 pixels."""
    return max(0, -(-(PUBLISHED_IMAGE - image_size) // 2))


def last_extent(image_size: int) -> int:
    """Height and width of S4's maps: 5 in the paper."""
    c1 = window_count("conv2d", "height", image_size, 5, stride=1, padding=padding_of(image_size))
    return (c1 // 2 - 4) // 2


def make_lenet5(name: str, options: dict) -> Network:
    size, squash = options["image_size"], nn.ScaledTanh
    features = [
        *(nn.Conv2d(options["in_channels"], 6, 5, padding=padding_of(size)), squash()),  # C1
        *(nn.Subsampling2d(6, 2), squash()),  # S2
        *(nn.PartialConv2d(C3_READS, 5), squash()),  # C3
        *(nn.Subsampling2d(16, 2), squash()),  # S4
        *(nn.Conv2d(16, 120, last_extent(size)), squash()),  # C5
    ]
    classifier = [
        *(nn.Linear(120, 84), squash()),  # F6
        nn.RadialBasis(codes(options["num_classes"])),
    ]
    return Stack(name, "full", options, features, classifier)


def make_lenet(name: str, options: dict) -> Network:
    size = options["image_size"]
    pool = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}[checked(name, options, "pooling", ("average", "max"))]
    features = [
        *(nn.Conv2d(options["in_channels"], 6, 5, padding=padding_of(size)), nn.Tanh(), pool(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), pool(2)),
    ]
    classifier = [
        *(nn.Linear(16 * last_extent(size) ** 2, 120), nn.Tanh()),
        *(nn.Linear(120, 84), nn.Tanh()),
        nn.Linear(84, options["num_classes"]),
    ]
    return Stack(name, "full", options, features, classifier)


def he_with_table(network: Network) -> None:
    """He's rule for every layer; F6 starts with a tenth, so that all codes are about equally far."""
    he(network)
    for layer in network.layers(nn.PartialConv2d):
        layer.draw_normal()


def paper(network: Network) -> None:
    """Weights ~ U(-2.4/F, 2.4/F), where F is a unit's number of inputs (appendix A); biases 0."""
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        init.uniform_(layer.weight, 2.4 / init.fan_in(layer.weight))
    for layer in network.layers(nn.PartialConv2d):
        init.uniform_(layer.weight, 2.4)
        layer.weight.copy_(layer.weight.numpy() / layer.fan_in[:, None, None])
    for layer in network.layers(nn.Subsampling2d):
        init.uniform_(layer.weight, 2.4 / layer.kernel_size**2)


def _constructor(name: str, make, what: str, more: str = "", **options):
    doc = f"""{what}

    num_classes, in_channels  of the data
    image_size  pixels of its square images, from 28 on: 32 as published, less is padded to that
    initialize  "he": He's normal weights and zero biases; None: zeros, for weights that are loaded or only counted; "paper":
                uniform within 2.4 over the number of inputs
{more}
    Raises ValueError that says which argument does not fit.
    """
    initializers = {"he": he_with_table, "paper": paper}
    return constructor(name, make, initializers, doc, num_classes=10, image_size=32, in_channels=1, **options)


lenet5 = _constructor(
    "lenet5", make_lenet5, "LeNet-5 of 1998: partial connections, trainable subsampling, radial basis functions."
)
lenet = _constructor(
    "lenet",
    make_lenet,
    "LeNet-5 as textbooks have it: conv, pool, conv, pool and three fully connected layers, with tanh.",
    '    pooling     "average" or "max"\n',
    pooling="average",
)
