"""Ask the LLM about the proprietary patterns that were never judged. Needs no Spark."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.LABEL, __doc__))
