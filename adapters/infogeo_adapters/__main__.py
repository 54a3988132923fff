"""``python -m infogeo_adapters``: the command line."""

import sys

from infogeo_adapters.cli import main

if __name__ == "__main__":
    sys.exit(main())
