"""AlexNet as it was computed in 2012: two towers, which see each other's maps only where the paper lets them.

Each tower has half of the filters and hidden units of every layer. conv2, conv4 and conv5 read the maps of their own tower, conv3
and the fully connected layers those of both: the function of `alexnet(norm_groups=2)`, whose groups are the towers. The logits
are computed beside tower 0.

Source: Krizhevsky, Sutskever, Hinton 2012, section 3.2 and figure 2.
"""

from __future__ import annotations

import functools

import numpy as np

from minicnn import functional, nn
from minicnn.models.alexnet import alexnet, form_of
from minicnn.models.network import Conv, Form, LocalResponseNorm, Network, build
from minicnn.nn import init


class Tower(nn.Module):
    """Half of an alexnet. segments: from one exchange to the next, each of which reads both towers (the first the image)."""

    def __init__(self, form: Form, options: dict):
        super().__init__()
        extent, channels, segments = options["image_size"], options["in_channels"], []
        for rows in _segments(form):
            layers, extent, own = build(rows, extent, channels)
            segments.append(layers)
            channels = 2 * own
        width = extent * extent * channels
        for flatten in ([nn.Flatten()], []):
            hidden = nn.Linear(width, form.hidden // 2), nn.ReLU(), nn.Dropout(options["dropout"])
            segments.append([*flatten, *hidden])
            width = form.hidden
        self.segments = nn.Sequential(*(nn.Sequential(*layers) for layers in segments))

    @property
    def device(self):
        return self.parameters()[0].device


def _segments(form: Form) -> list[list]:
    """The rows of one tower, cut in front of each convolution but the first that reads both."""
    segments = [[]]
    for row in form.features:
        if isinstance(row, Conv):
            if row.groups == 1 and segments[0]:
                segments.append([])
            row = row._replace(channels=row.channels // 2, groups=1)
        elif isinstance(row, LocalResponseNorm):
            row = row._replace(groups=1)
        segments[-1].append(row)
    return segments


class TwoTowers(nn.Module):
    """The two towers of an alexnet, with its weights: images (N, H, W, C) -> logits (N, num_classes).

    network  an alexnet with norm_groups=2, which is left as it is; `joined()` makes one of the towers' weights again

    On one device the towers are computed side by side, where it has streams, from one exchange to the next; `spread` puts them
    on two. The dropout of a tower draws masks of its own. Raises ValueError for another network.
    """

    def __init__(self, network: Network):
        super().__init__()
        if getattr(network, "name", None) != "alexnet" or network.options["norm_groups"] != 2:
            raise ValueError(
                "TwoTowers takes an alexnet whose normalisation stays within the towers: alexnet(norm_groups=2, ...)"
            )
        self.options = dict(network.options)
        form = form_of("alexnet", self.options["image_size"])
        with init.skipped():
            self.tower0, self.tower1 = Tower(form, self.options), Tower(form, self.options)
            self.tower0.logits = nn.Linear(form.hidden, self.options["num_classes"])
        for whole, parts in self._shared_with(network):
            for part, values in zip(parts, np.split(whole.numpy(), len(parts)), strict=True):
                part.copy_(values)
        place = network.parameters()[0].device
        self.spread(place, place)

    def spread(self, first, second) -> TwoTowers:
        """Tower 0 and the logits on one device, tower 1 on another: each has an arena, and so needs an optimizer, of its own.
        Where they differ the input is wanted on tower 0's, and what towers exchange travels through the host's memory."""
        self.tower0.to(first)
        self.tower1.to(second)
        return self

    def to(self, device) -> TwoTowers:
        return self.spread(device, device)

    def joined(self) -> Network:
        """An alexnet with these weights, on tower 0's device."""
        network = alexnet(**self.options | {"initialize": None})
        network.options["initialize"] = self.options["initialize"]
        for whole, parts in self._shared_with(network):
            whole.copy_(np.concatenate([part.numpy() for part in parts]))
        return network.to(self.tower0.device)

    def _shared_with(self, network: Network):
        """Each parameter of the network, and those of the towers that are its parts: filters and units are halved in order."""
        *layers, logits = network.layers(nn.Conv2d) + network.layers(nn.Linear)
        halves = [_weighted(tower.segments) for tower in (self.tower0, self.tower1)]
        for layer, *parts in zip(layers, *halves, strict=True):
            for name, whole in layer.named_parameters():
                yield whole, [getattr(part, name) for part in parts]
        for name, whole in logits.named_parameters():
            yield whole, [getattr(self.tower0.logits, name)]

    def forward(self, x):
        seen = self._for_both(x)
        for segments in zip(self.tower0.segments, self.tower1.segments, strict=True):
            seen = self._for_both(*self._apart(segments, seen))
        return self.tower0.logits(seen[0])

    def _apart(self, segments, seen) -> list:
        """What each tower makes of what it sees."""
        works = [functools.partial(segment, maps) for segment, maps in zip(segments, seen, strict=True)]
        one_device = self.tower0.device is self.tower1.device
        return self.tower0.device.side_by_side(works) if one_device else [work() for work in works]

    def _for_both(self, *maps) -> list:
        """The exchange: the channels of all maps, on each tower's device."""
        devices = [self.tower0.device, self.tower1.device]
        if devices[0] is devices[1]:
            return [_gathered(maps, devices[0])] * 2
        return [_gathered(maps, device) for device in devices]


def _gathered(maps, device):
    here = [each if each.device is device else functional.to_device(each, device) for each in maps]
    return here[0] if len(here) == 1 else functional.concatenate(here, axis=-1)


def _weighted(module: nn.Module) -> list[nn.Module]:
    return [inner for _, inner in module.named_modules() if isinstance(inner, (nn.Conv2d, nn.Linear))]
