"""Train the small model on the labelled systems and let it serve."""

import sys

from nightlog.run.entry import run_teaching
from nightlog.run.train import run_training

if __name__ == "__main__":
    sys.exit(run_teaching(run_training, __doc__))
