"""What the tests of max and average pooling share: the named cases, and their windows spelled out in plain loops."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """x (N, H, W, C) and the arguments of a pooling."""

    x: tuple[int, int, int, int]
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0
    ceil_mode: bool = False

    @property
    def arguments(self):
        return self.kernel_size, self.stride, self.padding, self.ceil_mode

    @property
    def axes(self):
        """(extent, size, stride, padding) of rows and of columns."""
        pair = [v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride, self.padding)]
        size, stride, padding = pair[0], pair[0] if self.stride is None else pair[1], pair[2]
        return tuple(zip(self.x[1:3], size, stride, padding, strict=True))

    @property
    def known_to_torch(self) -> bool:
        """PyTorch refuses padding of more than half the window, and empty inputs of some poolings."""
        return all(2 * padding <= size for _, size, _, padding in self.axes) and 0 not in self.x

    @property
    def leaves_no_window_empty(self) -> bool:
        """Whether every window contains an element of the image."""
        return all(any(self.is_inside(h, w) for *_, h, w in places) for _, _, places in self.windows())

    def windows(self):
        """(p, q, [(r, s, h, w) of each place]) of each window; places in the padding are among them."""
        rows, columns = (list(_starts(*axis, self.ceil_mode)) for axis in self.axes)
        (_, r_count, *_), (_, s_count, *_) = self.axes
        for (p, top), (q, left) in itertools.product(enumerate(rows), enumerate(columns)):
            places = itertools.product(range(r_count), range(s_count))
            yield p, q, [(r, s, top + r, left + s) for r, s in places]

    def is_inside(self, h: int, w: int) -> bool:
        return 0 <= h < self.x[1] and 0 <= w < self.x[2]


def _starts(extent, size, stride, padding, ceil_mode):
    """Window after window as long as they end in the image or its padding; with ceil_mode also one that starts there."""
    start = -padding
    while start + size <= extent + padding:
        yield start
        start += stride
    if ceil_mode and start < extent and start - stride + size < extent + padding:
        yield start


CASES = {
    "overlapping_as_in_alexnet": Case((2, 7, 9, 8), 3, 2),
    "side_by_side_as_in_vgg": Case((2, 6, 8, 4), 2),
    "oblong_window_and_stride": Case((2, 8, 7, 4), (3, 2), (2, 1)),
    "stride_past_the_window": Case((2, 9, 8, 4), 2, 3),
    "stride_one": Case((1, 5, 6, 4), 3, 1),
    "single_place": Case((2, 4, 3, 4), 1),
    "whole_image": Case((2, 5, 4, 4), (5, 4)),
    "padded": Case((2, 7, 6, 4), 3, 2, 1),
    "padded_unlike": Case((2, 7, 6, 4), (2, 3), 2, (0, 1)),
    "windows_wholly_in_the_padding": Case((1, 3, 4, 4), 2, 1, (3, 2)),
    "windows_wholly_in_the_padding_at_a_stride": Case((2, 2, 3, 4), 2, 3, (4, 5)),
    "window_larger_than_the_image": Case((1, 2, 3, 4), 5, 1, 2),
    "ceil_mode": Case((2, 6, 8, 4), 3, 2, 0, True),
    "ceil_mode_with_padding": Case((2, 7, 6, 4), 2, 2, 1, True),
    "ceil_mode_past_the_padding": Case((2, 6, 5, 4), (3, 2), (2, 3), 1, True),
    "ceil_mode_drops_a_window_that_starts_in_the_padding": Case((1, 3, 5, 4), 2, 3, 1, True),
    "ceil_mode_window_larger_than_the_image": Case((1, 2, 5, 4), 3, 2, 0, True),
    "one_channel": Case((2, 5, 5, 1), 3, 2),
    "odd_channels": Case((2, 5, 5, 3), 3, 2),
    "vectors_of_channels_and_a_tail": Case((2, 5, 4, 35), 3, 2, 1),
    "more_images_than_a_thread_takes": Case((6, 5, 4, 4), 3, 2),
    "several_images_past_one_block": Case((3, 11, 12, 12), 2, 1),
    "empty_batch": Case((0, 6, 6, 4), 3, 2),
    "no_rows_but_padding": Case((2, 0, 5, 4), 2, 1, 1),
    "no_columns_but_padding": Case((2, 5, 0, 4), 2, 1, 1),
    "no_channels": Case((2, 5, 6, 0), 3, 2),
}
