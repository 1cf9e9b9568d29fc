"""Train the small model on the labelled systems and let it serve."""

import logging
import sys

from nightlog.errors import NightlogError
from nightlog.job import arguments, settings_from
from nightlog.train import run_training

if __name__ == "__main__":
    given = arguments(__doc__, with_ds=False).parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        run_training(
            settings_from(lake=given.lake, data=given.data, master=given.master), given.systems, lambda text: print(text, flush=True)
        )
    except NightlogError as error:
        print(f"nightlog: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
