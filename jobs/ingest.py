"""Read the day's log files into bronze.lines."""

import sys

from nightlog.run.entry import run_stage
from nightlog.run.stages import Stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.INGEST, __doc__))
