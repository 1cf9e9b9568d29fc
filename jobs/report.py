"""Report the night: signals, pages and hand-off. Nothing of what was published is changed."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.REPORT, __doc__))
