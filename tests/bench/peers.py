"""The peers, each in one process: Drain3 alone, and LogLead (Polars) with Tipping or Drain, from the file to sequences of events.

All mask block ids, addresses and numbers before they mine. Neither writes anything.
"""

from __future__ import annotations

import sys
from pathlib import Path

MASKS = (("BLK", r"blk_-?\d+"), ("IP", r"/?\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(:\d+)?"), ("NUM", r"[-+]?\d+"))


def drain3(log: Path) -> None:
    """Every line's message through Drain3's miner, as its documentation shows it."""
    from drain3 import TemplateMiner
    from drain3.masking import MaskingInstruction
    from drain3.template_miner_config import TemplateMinerConfig

    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(pattern, name) for name, pattern in MASKS]
    miner = TemplateMiner(config=config)
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            miner.add_log_message(line.rstrip("\n").split(": ", 1)[1])
    print(len(miner.drain.clusters), "templates", flush=True)


def loglead(log: Path, parser: str) -> None:
    """LogLead's own loader, masks, parser and sequences."""
    from loglead.enhancers import EventLogEnhancer, SequenceEnhancer
    from loglead.loaders import HDFSLoader

    print("@stage load", flush=True)
    loader = HDFSLoader(filename=str(log), labels_file_name=str(log.parents[1] / "labels.csv"))
    loader.execute()
    print("@stage parse", flush=True)
    enhancer = EventLogEnhancer(loader.df)
    enhancer.mask([(f"<{name}>", pattern) for name, pattern in MASKS], twice=False)
    frame = enhancer.parse_tip() if parser == "tip" else enhancer.parse_drain()
    print("@stage sequences", flush=True)
    sequences = SequenceEnhancer(frame, loader.df_seq).events(f"e_event_{parser}_id")
    print(len(sequences), "sequences", flush=True)


if __name__ == "__main__":
    name, path = sys.argv[1], Path(sys.argv[2])
    if name == "drain3":
        drain3(path)
    else:
        loglead(path, name.removeprefix("loglead-"))
