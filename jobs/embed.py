"""Give every new template its vector."""

import sys

from nightlog.job import run_stage
from nightlog.stages import Stage

if __name__ == "__main__":
    sys.exit(run_stage(Stage.EMBED, __doc__))
