"""Route the day's patterns: general to the small model, proprietary to the LLM."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.ROUTE, __doc__))
