"""`minicnn finetune`: train the network of a run on other classes, with some of its layers frozen."""

from __future__ import annotations

from minicnn import transfer
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument(
        "run_folder", metavar="RUN", help="a run folder, or one checkpoint file, that the network is taken from"
    )
    options.add_data(parser, None)
    parser.add_argument(
        "--freeze",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="parameters that stay as they are, such as 'features.*'",
    )
    parser.add_argument(
        "--cache-features",
        action="store_true",
        help="compute the frozen first layers once; images are then not augmented",
    )
    parser.add_argument("--out", default=None, metavar="DIR", help="the run folder (RUN-finetuned)")
    options.add_training(parser, lr=transfer.FINETUNE_LR)


def run(arguments) -> int:
    if arguments.data is None:
        raise ValueError("finetune: say which images to learn, a folder or a name (--data)")
    transfer.finetune(
        arguments.run_folder,
        arguments.data,
        frozen=arguments.freeze,
        cache_features=arguments.cache_features,
        out=arguments.out,
        data_dir=arguments.data_dir,
        **options.training(arguments),
    )
    return options.DONE
