"""Which GPU a task computes on, and which texts go through the encoder together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nightlog.encoding.encoder import batches, device_name, make_encoder
from nightlog.spark import delta_jars

BIN = Path(sys.executable).parent
ON_EXECUTORS = """
import json, sys
import numpy as np
from nightlog.encoding.encoder import device_name, task_gpus
from nightlog.encoding.encoder import encode_templates
from nightlog.spark import start_spark

spark = start_spark("gpu test", profile="gpu")
seen = spark.sparkContext.parallelize(range(4), 4).map(lambda _: (task_gpus(), device_name("auto", task_gpus(), 8))).collect()
frame = spark.createDataFrame([("app", "t", "Deleting block <BLK>")], "system string, template_id string, text string")
vector = encode_templates(frame, "cpu").first()["vector"]
told = {"seen": seen, "outside": task_gpus(), "norm": float(np.linalg.norm(vector)), "size": len(vector)}
open(sys.argv[1], "w").write(json.dumps(told))
"""


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(1, 5000))
def test_batches_hold_every_text_once_and_no_more_letters_than_allowed(lengths: list[int], budget: int) -> None:
    found = [batch.tolist() for batch in batches(lengths, budget)]
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= budget
    if sum(lengths) and max(lengths) * len(lengths) <= budget:
        assert len(found) == 1


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_not_quietly_replaced() -> None:
    assert device_name("auto", ["0"], 0) == "cpu"
    assert device_name("cuda", [], 0) == "cuda"


@pytest.mark.slow
def test_each_executor_computes_on_the_gpu_that_spark_gave_it(tmp_path: Path) -> None:
    """On `local-cluster`, where a discovery script pretends; the profile asks for GPUs in one place, and Spark grants them."""
    script, job, out = tmp_path / "gpus.sh", tmp_path / "job.py", tmp_path / "out.json"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["5"]}'\n""")
    script.chmod(0o755)
    job.write_text(ON_EXECUTORS)
    own = ["--conf", f"spark.executor.resource.gpu.discoveryScript={script}", "--conf", "spark.executor.cores=1"]
    own += ["--conf", "spark.worker.resource.gpu.amount=1", "--conf", f"spark.worker.resource.gpu.discoveryScript={script}"]
    own += ["--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.memory=1g"]
    command = [str(BIN / "spark-submit"), "--master", "local-cluster[1,1,1024]", "--jars", delta_jars(), *own, str(job), str(out)]
    env = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}

    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(out.read_text())
    assert told["seen"] == [[["5"], "cuda:5"]] * 4
    assert told["outside"] == []
    assert (round(told["norm"], 4), told["size"]) == (1.0, 384)


@pytest.mark.gpu
def test_a_gpu_in_half_precision_says_what_the_cpu_says() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    texts = np.array(["Deleting block <BLK> file <PATH>", "Connection to <IP> failed", "word " * 900, "<*>"] * 50, dtype=object)
    cpu, gpu = make_encoder("cpu")(texts), make_encoder("cuda")(texts)
    assert gpu.dtype == np.float32
    assert np.allclose(np.linalg.norm(gpu, axis=1), 1, atol=1e-5)
    assert (cpu * gpu).sum(axis=1).min() > 0.999
