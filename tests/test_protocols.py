"""The views of each protocol by count, place and order (facts A7, V7, V8), and their scales."""

import numpy as np
import pytest

from minicnn import data, protocols


def numbered(height, width):
    """One image (1, H, W, 1) whose pixels tell their places: 16 * row + column."""
    return (16 * np.arange(height)[:, None] + np.arange(width))[None, ..., None].astype(np.uint8)


def test_the_grid_has_five_by_five_places_from_edge_to_edge_and_their_mirror_images():
    views = data.grid_crops(numbered(12, 16), 8)
    assert views.shape == (1, 50, 8, 8, 1)
    corners = views[0, :25, 0, 0, 0].reshape(5, 5)
    np.testing.assert_array_equal(corners // 16, np.repeat([[0, 1, 2, 3, 4]], 5, axis=0).T)
    np.testing.assert_array_equal(corners % 16, np.repeat([[0, 2, 4, 6, 8]], 5, axis=0))
    np.testing.assert_array_equal(views[0, 25:], views[0, :25, :, ::-1])


def test_the_grid_of_an_image_without_room_is_one_place():
    views = data.grid_crops(numbered(8, 8), 8)
    assert (views[0, :25] == numbered(8, 8)[0]).all()


def test_the_center_drops_the_odd_pixel_at_the_right_and_the_bottom():
    np.testing.assert_array_equal(protocols.center(numbered(9, 8), 6)[0, 0, 0, 0, 0], 16 * 1 + 1)
    assert protocols.center(numbered(9, 8), 6).shape == (1, 1, 6, 6, 1)


def test_dense_looks_at_the_whole_image_and_its_mirror_image():
    image = numbered(6, 9)
    np.testing.assert_array_equal(protocols.mirrored(image, 4), np.stack([image, image[:, :, ::-1]], 1))


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_a_look_has_as_many_views_as_it_says(name):
    for look in protocols.find(name).looks:
        assert look.cut(numbered(10, 12), 8).shape[1] == look.views


@pytest.mark.parametrize(
    ("name", "size", "trained", "scales", "views"),
    [
        ("center", 224, (256,), (256,), 1),
        ("center", 28, (28,), (28,), 1),
        ("ten-crop", 224, (256,), (256,), 10),
        ("ten-crop", 224, (224,), (256,), 10),
        ("ten-crop", 28, (28,), (32,), 10),
        ("multi-crop", 224, (256,), (224, 256, 288), 150),
        ("multi-crop", 224, (384,), (352, 384, 416), 150),
        ("multi-crop", 28, (28,), (28, 32, 36), 150),
        ("dense", 224, (256,), (256,), 2),
        ("multi-scale", 224, (256,), (224, 256, 288), 6),
        ("multi-scale", 224, (384,), (352, 384, 416), 6),
        ("dense+multi-crop", 224, (256,), (224, 256, 288), 156),
        ("dense", 224, (256, 512), (384,), 2),
        ("center", 224, (256, 512), (384,), 1),
        ("multi-scale", 224, (256, 512), (256, 384, 512), 6),
    ],
)
def test_scales_and_views_where_nobody_asks_for_others(name, size, trained, scales, views):
    assert protocols.scales_of(name, size, trained) == scales
    assert sum(look.views for look in protocols.find(name).looks) * len(scales) == views


def test_scales_may_be_asked_for_but_not_smaller_than_the_network_sees():
    assert protocols.scales_of("multi-scale", 224, (300,), [256, 384, 512]) == (256, 384, 512)
    with pytest.raises(
        ValueError, match=r"^scale 192 is too small: the network sees 224 pixels of an image, its short side$"
    ):
        protocols.scales_of("dense", 224, (256,), [256, 192])


def test_an_unknown_protocol_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^unknown protocol 'centre': choose one of center, ten-crop, multi-crop, dense, multi-scale, "
        r"dense\+multi-crop$",
    ):
        protocols.find("centre")
