"""`minicnn pack`: decode a folder of images once, into a folder that training reads at full speed."""

from __future__ import annotations

from pathlib import Path

from minicnn import data
from minicnn.commands import options
from minicnn.data.packed import read_manifest
from minicnn.progress import Progress
from minicnn.threads import thread_count


def add(parser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", help="of class folders, or of train, val and test; to --check, a packed one"
    )
    parser.add_argument("out", metavar="OUT", nargs="?", help="the new folder")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="side of the central square (256)")
    parser.add_argument("--shard-bytes", type=int, default=1 << 30, metavar="BYTES", help="of a file, at most (1 GiB)")
    parser.add_argument("--workers", type=int, default=thread_count(), help="that decode (one a core)")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave images out that cannot be read")
    parser.add_argument("--check", action="store_true", help="hold the files of a packed folder against their digests")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments) -> int:
    progress = Progress(arguments.quiet)
    if arguments.check:
        return check(arguments.folder, progress)
    if arguments.out is None:
        raise data.DataError("OUT is missing: expected minicnn pack FOLDER OUT")
    with progress.counting("packing") as report:
        out = data.pack(
            arguments.folder,
            arguments.out,
            image_size=arguments.size,
            shard_bytes=arguments.shard_bytes,
            skip_unreadable=arguments.skip_unreadable,
            workers=arguments.workers,
            report=report,
        )
    manifest = read_manifest(out)
    parts = ", ".join(f"{part['images']:,} {name}" for name, part in manifest["parts"].items())
    size, classes = manifest["image_size"], len(manifest["class_names"])
    progress.say(f"{out}: {parts} images, {size}x{size}x{manifest['channels']}, {classes} classes")
    if manifest["skipped"]:
        progress.say(f"left out because they cannot be read: {len(manifest['skipped'])}, listed in {out}/pack.json")
    return options.DONE


def check(folder, progress: Progress) -> int:
    for part in read_manifest(Path(folder).expanduser())["parts"]:
        data.PackedImages(folder, part).verify(lambda file: progress.say(f"{file}: as it was packed"))
    return options.DONE
