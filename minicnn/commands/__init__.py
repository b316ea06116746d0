"""The commands, a file each: its docstring is what `--help` says of it, `add` names its options, `run` obeys them."""
