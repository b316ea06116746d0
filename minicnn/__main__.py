"""`python3 -m minicnn` and the command `minicnn`."""

import sys


def main(argv=None):
    if sys.version_info < (3, 10):  # noqa: UP036  (this and __init__.py are all that an older Python gets to see)
        sys.exit("minicnn needs Python 3.10 or later; this is {}.{}".format(*sys.version_info))
    from minicnn import bootstrap

    argv = sys.argv[1:] if argv is None else argv
    bootstrap.ensure_installed(argv)
    command, *rest = argv or [""]
    from minicnn.doctor import doctor, level_warning

    if command in ("doctor", "install"):
        return doctor()
    print(level_warning(), end="", file=sys.stderr)
    if command == "test":
        return bootstrap.run_tests(rest)
    from minicnn import cli

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main())
