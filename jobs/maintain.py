"""Drop expired nights, put small files together, and remove files that no version of the lake needs."""

import sys

from nightlog.run.entry import run_teaching
from nightlog.run.upkeep import run_maintenance

if __name__ == "__main__":
    sys.exit(run_teaching(run_maintenance, __doc__))
