"""Split, mask and group the day's lines into templates, sessions and patterns."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.PARSE, __doc__))
