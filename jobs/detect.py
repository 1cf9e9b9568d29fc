"""Score the day's patterns with the small model."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.DETECT, __doc__))
