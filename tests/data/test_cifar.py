"""CIFAR-10 and CIFAR-100, written here in the published forms: pickles as Python 2 wrote them, and binary records."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from minicnn.data import DataError
from minicnn.data.cifar import FORMS, read_cifar

NAMES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "cifar100": [f"class_{i}" for i in range(100)],
}
PYTHON_FORM = {name: forms[0] for name, forms in FORMS.items()}
BINARY_FORM = {name: forms[1] for name, forms in FORMS.items()}


class Python2Pickler(pickle._Pickler):
    """Protocol 2 with every string as Python 2's `str` (BINSTRING), as the published files hold theirs."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, content):
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(content)

    def save_str(self, text):
        self.save_bytes(text.encode())

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


def python2_pickle(value):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    module = np.zeros(1).__reduce__()[0].__module__.encode()
    return buffer.getvalue().replace(module, b"numpy.core.multiarray")


def sample(seed, count, classes):
    """Planes (count, 3072) uint8 as published, and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, classes, count).tolist()


def python_files(name, count=4):
    form = PYTHON_FORM[name]
    files = {form.names: python2_pickle({form.names_key: [n.encode() for n in NAMES[name]], b"num_vis": 3072})}
    for seed, file in enumerate((*form.train, *form.test)):
        data, labels = sample(seed, count, len(NAMES[name]))
        batch = {
            b"batch_label": b"training batch",
            form.labels_key: labels,
            b"data": data,
            b"filenames": [b"a.png"] * count,
        }
        if name == "cifar100":
            batch[b"coarse_labels"] = [0] * count
        files[file] = python2_pickle(batch)
    return files


def binary_files(name, count=4):
    form = BINARY_FORM[name]
    files = {form.names: ("\n".join(NAMES[name]) + "\n\n").encode()}
    for seed, file in enumerate((*form.train, *form.test)):
        data, labels = sample(seed, count, len(NAMES[name]))
        coarse = np.full((count, form.label_bytes - 1), 99, np.uint8)
        files[file] = np.hstack([coarse, np.array(labels, np.uint8)[:, None], data]).tobytes()
    return files


def write_folder(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def check(splits, name):
    """Every pixel against the planes that were written: red first, rows of 32."""
    classes = len(NAMES[name])
    for dataset, seeds in zip(splits, ((range(5), [5]) if name == "cifar10" else ([0], [1])), strict=True):
        data, labels = zip(*(sample(seed, 4, classes) for seed in seeds), strict=True)
        data, labels = np.concatenate(data), np.concatenate(labels)
        assert dataset.class_names == tuple(NAMES[name]) and dataset.labels.tolist() == labels.tolist()
        assert dataset.image_shape == (32, 32, 3) and len(dataset) == len(data)
        for (n, row, column, channel), value in np.ndenumerate(dataset.images[:, ::5, ::7]):
            assert value == data[n, channel * 1024 + row * 5 * 32 + column * 7]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("packing", ["folder", "folder in data_dir", "archive", "archive in data_dir"])
def test_published_forms(tmp_path, name, form, packing):
    files = {"python": python_files, "binary": binary_files}[form](name)
    layout = {"python": PYTHON_FORM, "binary": BINARY_FORM}[form][name]
    if packing.startswith("folder"):
        where = write_folder(tmp_path / layout.folder, files)
    else:
        where = write_archive(tmp_path / layout.archive, layout.folder, files)
    check(read_cifar(name, tmp_path if "data_dir" in packing else where), name)


def test_the_python_files_are_what_python_2_wrote():
    """The test's own writer: a string opcode, the old module's name, and numpy's unpickler agrees on the content."""
    content = python_files("cifar10")["data_batch_1"]
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content and b"_codecs" not in content
    batch = pickle.loads(content.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"), encoding="bytes")
    assert np.array_equal(batch[b"data"], sample(0, 4, 10)[0])


def test_an_array_in_fortran_order(tmp_path):
    files = python_files("cifar100")
    data, labels = sample(0, 4, 100)
    files["train"] = python2_pickle({b"fine_labels": labels, b"data": np.asfortranarray(data)})
    check(read_cifar("cifar100", write_folder(tmp_path, files)), "cifar100")


class Exploit:
    def __reduce__(self):
        return os.mkdir, (os.environ["MINICNN_TEST_EXPLOIT"],)


def test_no_code_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_TEST_EXPLOIT", str(tmp_path / "exploited"))
    files = python_files("cifar10") | {"batches.meta": pickle.dumps(Exploit(), 2)}
    folder = write_folder(tmp_path / "set", files)
    with pytest.raises(DataError) as error:
        read_cifar("cifar10", folder)
    assert str(error.value) == f"{folder}: batches.meta: it asks for posix.mkdir, which no CIFAR file does: refused"
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_3", b"", "data_batch_3 is damaged: Ran out of input"),
        ("data_batch_3", python2_pickle([1]), "data_batch_3 holds a list: expected a dict"),
        (
            "data_batch_3",
            python2_pickle({b"labels": [1]}),
            "data_batch_3 lacks an array 'data' or a list of integers 'labels'",
        ),
        (
            "data_batch_3",
            python2_pickle({b"labels": [1], b"data": np.zeros((1, 3072))}),
            "an array in it is not a whole two-dimensional one of uint8",
        ),
        (
            "data_batch_3",
            python2_pickle({b"labels": [1], b"data": np.zeros((1, 3072), np.int8)}),
            "an array in it is not a whole two-dimensional one of uint8",
        ),
        (
            "data_batch_3",
            python2_pickle({b"labels": [1], b"data": np.zeros((2, 3072), np.uint8)}),
            "data_batch_3 holds (2, 3072) data for 1 labels: expected (1, 3072)",
        ),
        ("batches.meta", python2_pickle({}), "batches.meta has no list of names under 'label_names'"),
        (
            "test_batch",
            python2_pickle({b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)}),
            "label 10 has no name: 10 class_names cover labels 0 to 9",
        ),
    ],
)
def test_damaged_python_files_are_named(tmp_path, file, content, message):
    folder = write_folder(tmp_path / "set", python_files("cifar10") | {file: content})
    with pytest.raises(DataError) as error:
        read_cifar("cifar10", folder)
    assert str(error.value) == f"{folder}: {message}"


def test_damaged_binary_file(tmp_path):
    files = binary_files("cifar10")
    files["data_batch_2.bin"] = files["data_batch_2.bin"][:-1]
    folder = write_folder(tmp_path / "set", files)
    with pytest.raises(DataError) as error:
        read_cifar("cifar10", folder)
    assert str(error.value) == f"{folder}: data_batch_2.bin is damaged: 12291 bytes, expected a multiple of 3073"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        read_cifar("cifar10", tmp_path)
    assert str(error.value) == (
        f"no cifar10 in {tmp_path}: expected cifar-10-batches-py/ or cifar-10-python.tar.gz or cifar-10-batches-bin/ "
        "or cifar-10-binary.tar.gz, as published at https://www.cs.toronto.edu/~kriz/cifar.html"
    )
    files = python_files("cifar10")
    del files["data_batch_4"]
    write_folder(tmp_path, files)
    with pytest.raises(DataError) as error:
        read_cifar("cifar10", tmp_path)
    assert str(error.value) == (
        f"{tmp_path} lacks data_batch_4: expected data_batch_1, data_batch_2, data_batch_3, data_batch_4, "
        "data_batch_5, test_batch, batches.meta"
    )


def test_truncated_archive(tmp_path):
    form = PYTHON_FORM["cifar100"]
    path = write_archive(tmp_path / form.archive, form.folder, python_files("cifar100"))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError) as error:
        read_cifar("cifar100", tmp_path)
    assert str(error.value).startswith(f"cannot read {path} as a tar archive: ")
