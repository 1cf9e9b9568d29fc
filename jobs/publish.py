"""Publish the night: gold.anomalies and gold.nights, through the gates."""

import sys

from nightlog.outcomes import Stage
from nightlog.run.entry import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.PUBLISH, __doc__))
