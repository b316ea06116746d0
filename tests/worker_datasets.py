"""Datasets that a worker process can import, whose reading goes wrong at one image."""

import os
import signal
import time

import numpy as np

from minicnn.data import DataError, Dataset


class Numbered(Dataset):
    """`count` images of 4 x 4, image i filled with i and labelled i % 2; `what` happens when image `at` is read."""

    def __init__(self, count=23, what="nothing", at=-1):
        self.labels, self.class_names, self.image_shape = np.arange(count) % 2, ("even", "odd"), (4, 4, 3)
        self.what, self.at = what, at

    def read(self, indices):
        if self.at in indices:
            getattr(self, self.what)()
        filled = np.asarray(indices, np.uint8).reshape(-1, 1, 1, 1)
        return np.broadcast_to(filled, (len(filled), *self.image_shape)).copy()

    def nothing(self):
        pass

    def broken(self):
        raise DataError(f"image {self.at} is broken")

    def peculiar(self):
        raise Peculiar("two", "parts")

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def exits(self):
        os._exit(3)

    def sleeps(self):
        time.sleep(600)


class Peculiar(Exception):
    """Cannot be unpickled: its arguments are not those it was made of."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")
