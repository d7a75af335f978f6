"""``python -m memspec``: the command line."""

from memspec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
