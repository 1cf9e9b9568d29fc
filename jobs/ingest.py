"""Read the day's log files into bronze.lines."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.INGEST, __doc__))
