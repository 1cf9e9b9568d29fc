"""The peers, each a whole process that reads one file of HDFS lines: `peers.py NAME FILE`.

Template miners, with the same three masks (block ids, addresses, numbers); none but Brain writes anything:

- `drain3`: Drain3 in one process.
- `drain3-cores`: Drain3 in as many processes as cores. The file is cut at line ends; each process mines its part alone. At the end equal
  templates are counted once; templates of two processes that differ are not merged, and no line is given its final template.
- `loglead-tip`: LogLead's loader for HDFS, masks, Tipping, and the sequence of events of each block.
- `loglead-auto`: LogLead's AutoLoader, masks and Tipping. It splits off the time alone and finds no blocks, so there are no sequences.
- `brain`: logparser's Brain, in an environment of its own. It writes two CSV files, which are removed.

Limits, which mine no templates:

- `duckdb`, `polars`: cut each line by the header's expression and count the lines of each level and component, with the first time and
  the longest message, so that each field is read.
- `copy`: reads the file once and writes `--bytes` of it to the disk.
- `zstd`: reads the file once and writes it compressed (zstd, level 1, a thread per core).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

MASKS = (("BLK", r"blk_-?\d+"), ("IP", r"/?\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(:\d+)?"), ("NUM", r"[-+]?\d+"))
SHIPPED = Path(__file__).resolve().parents[2] / "libs" / "nightlog" / "systems" / "shipped" / "hdfs.toml"
BLOCK = 1 << 20
CORES = len(os.sched_getaffinity(0))


def mined(log: Path, start: int, end: int) -> set[str]:
    """Return the templates that Drain3 finds in the lines of a range of bytes, which begins and ends with a line."""
    from drain3 import TemplateMiner
    from drain3.masking import MaskingInstruction
    from drain3.template_miner_config import TemplateMinerConfig

    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(pattern, name) for name, pattern in MASKS]
    miner = TemplateMiner(config=config)
    with log.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if start >= end:
                break
            miner.add_log_message(line.decode().rstrip("\n").split(": ", 1)[1])
            start += len(line)
    return {cluster.get_template() for cluster in miner.drain.clusters}


def cuts(log: Path, parts: int) -> list[int]:
    """Return parts + 1 offsets that cut a file into ranges of about the same size, each at the start of a line."""
    size = log.stat().st_size
    found = [0]
    with log.open("rb") as lines:
        for number in range(1, parts):
            lines.seek(size * number // parts)
            lines.readline()
            found.append(lines.tell())
    return [*found, size]


def drain3(log: Path) -> None:
    """Mine all lines in one process."""
    print(len(mined(log, 0, log.stat().st_size)), "templates", flush=True)


def drain3_cores(log: Path) -> None:
    """Mine a part of the lines in each of as many processes as cores."""
    with multiprocessing.Pool(CORES) as pool:
        found = pool.starmap(mined, [(log, *each) for each in pairwise(cuts(log, CORES))])
    print(len(set[str]().union(*found)), "templates", flush=True)


def loglead_tip(log: Path) -> None:
    """Load, mask, parse, and join the sequences."""
    from loglead.enhancers import EventLogEnhancer, SequenceEnhancer
    from loglead.loaders import HDFSLoader

    print("@stage load", flush=True)
    loader = HDFSLoader(filename=str(log), labels_file_name=str(log.parents[1] / "labels.csv"))
    loader.execute()
    print("@stage parse", flush=True)
    enhancer = EventLogEnhancer(loader.df)
    enhancer.mask([(f"<{name}>", pattern) for name, pattern in MASKS], twice=False)
    frame = enhancer.parse_tip()
    print("@stage sequences", flush=True)
    sequences = SequenceEnhancer(frame, loader.df_seq).events("e_event_tip_id")
    print(len(sequences), "sequences", flush=True)


def loglead_auto(log: Path) -> None:
    """Load a file of unknown format, mask and parse."""
    from loglead.enhancers import EventLogEnhancer
    from loglead.loaders import AutoLoader

    print("@stage load", flush=True)
    loader = AutoLoader(filename=str(log))
    loader.execute()
    print("@stage parse", flush=True)
    enhancer = EventLogEnhancer(loader.df)
    enhancer.mask([(f"<{name}>", pattern) for name, pattern in MASKS], twice=False)
    print(enhancer.parse_tip()["e_event_tip_id"].n_unique(), "templates", flush=True)


def brain(log: Path) -> None:
    """Parse by logparser, with its settings for HDFS."""
    from logparser.Brain import LogParser

    with tempfile.TemporaryDirectory(dir=log.parent) as out:
        parser = LogParser(
            logname="HDFS",
            log_format="<Date> <Time> <Pid> <Level> <Component>: <Content>",
            indir=str(log.parent),
            outdir=out,
            threshold=2,
            rex=[pattern for _, pattern in MASKS],
        )
        parser.parse(log.name)


def header() -> str:
    """Return the expression of the shipped system's header, with its named groups."""
    return str(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))["header"]["pattern"])


def duckdb(log: Path) -> None:
    """Count lines per level and component in SQL."""
    import re

    import duckdb as sql

    names = list(re.compile(header()).groupindex)
    rows = sql.execute(
        "SELECT f.level, f.component, count(*), min(f.date || f.time), max(length(f.message)) FROM"
        " (SELECT regexp_extract(line, $pattern, $names) AS f FROM read_csv($log, header = false, columns = {line: 'VARCHAR'},"
        " delim = '\a', quote = '', escape = '')) GROUP BY ALL".replace("$names", repr(names)),
        {"pattern": header(), "log": str(log)},
    ).fetchall()
    print(len(rows), "levels and components,", sum(row[2] for row in rows), "lines", flush=True)


def polars(log: Path) -> None:
    """Count lines per level and component by Polars' streaming engine."""
    import polars as pl

    lines = pl.scan_csv(log, has_header=False, separator="\a", quote_char=None, schema={"line": pl.String})
    fields = lines.select(pl.col("line").str.extract_groups(header())).unnest("line")
    first, longest = pl.concat_str("date", "time").min().alias("first"), pl.col("message").str.len_chars().max()
    counts = fields.group_by("level", "component").agg(pl.len(), first, longest).collect(engine="streaming")
    print(len(counts), "levels and components,", counts["len"].sum(), "lines", flush=True)


def copy(log: Path, n_bytes: int) -> None:
    """Read the file once, and write its first bytes until they are on the disk."""
    with log.open("rb") as lines, tempfile.TemporaryFile(dir=log.parents[2]) as out:
        while block := lines.read(BLOCK):
            out.write(block[: max(0, n_bytes - out.tell())])
        out.flush()
        os.fsync(out.fileno())
        print(out.tell(), "bytes", flush=True)


def zstd(log: Path) -> None:
    """Read the file once, and write it compressed until it is on the disk."""
    from backports import zstd as codec

    options = {codec.CompressionParameter.compression_level: 1, codec.CompressionParameter.nb_workers: CORES}
    compressor = codec.ZstdCompressor(options=options)
    with log.open("rb") as lines, tempfile.TemporaryFile(dir=log.parents[2]) as out:
        while block := lines.read(BLOCK):
            out.write(compressor.compress(block))
        out.write(compressor.flush())
        out.flush()
        os.fsync(out.fileno())
        print(out.tell(), "bytes", flush=True)


PEERS: dict[str, Callable[[Path], None]] = {
    "drain3": drain3,
    "drain3-cores": drain3_cores,
    "loglead-tip": loglead_tip,
    "loglead-auto": loglead_auto,
    "brain": brain,
    "duckdb": duckdb,
    "polars": polars,
    "zstd": zstd,
}


def main() -> None:
    """Run one peer on one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*PEERS, "copy"])
    parser.add_argument("log", type=Path)
    parser.add_argument("--bytes", type=int, default=0, help="how many `copy` writes")
    given = parser.parse_args()
    if given.name == "copy":
        copy(given.log, given.bytes)
    else:
        PEERS[given.name](given.log)


if __name__ == "__main__":
    main()
