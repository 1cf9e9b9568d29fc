"""Distil the LLM's verdicts and the analysts' answers into small models of the systems' own."""

import sys

from nightlog.run.entry import run_teaching
from nightlog.run.train import run_distillation

if __name__ == "__main__":
    sys.exit(run_teaching(run_distillation, __doc__))
