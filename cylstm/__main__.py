# PYTHON_ARGCOMPLETE_OK
"""``python -m cylstm``: see `cylstm.cli`."""

from cylstm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
