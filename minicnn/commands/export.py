"""`minicnn export`: write a trained network as an ONNX file."""

from __future__ import annotations

from minicnn import onnx_export, saving
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or one checkpoint file")
    parser.add_argument("file", metavar="FILE", help="the .onnx file to write")


def run(arguments) -> int:
    try:
        onnx_export.export_onnx(saving.load(arguments.run_folder, "cpu"), arguments.file)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: pip install 'minicnn[onnx]' brings it") from error
    print(f"{arguments.file}: input x (N, C, H, W), output y, opset {onnx_export.OPSET}")
    return options.DONE
