"""Distil the LLM's verdicts and the analysts' answers into small models of the systems' own."""

import sys

from nightlog.errors import NightlogError
from nightlog.job import arguments, log_to_stderr, settings_from
from nightlog.train import run_distillation

if __name__ == "__main__":
    given = arguments(__doc__, with_ds=False).parse_args()
    log_to_stderr()
    try:
        run_distillation(
            settings_from(lake=given.lake, data=given.data, master=given.master), given.systems, lambda text: print(text, flush=True)
        )
    except NightlogError as error:
        print(f"nightlog: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
