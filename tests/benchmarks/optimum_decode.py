"""optimum-benchmark's decode figure of a GGUF file: `PYTHON optimum_decode.py MODEL TOKENS ITERATIONS`.

Run by a Python of its own, with optimum-benchmark and llama-cpp-python; prints tokens per second as its report says.
It fetches models from a hub by name; there is no hub here, so a local file takes the place of the download.
"""

import sys

import llama_cpp
from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, LlamaCppConfig

path, tokens, iterations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llama_cpp.Llama.from_pretrained = classmethod(
    lambda cls, repo_id, filename, **settings: cls(model_path=filename, **settings)
)
report = Benchmark.launch(
    BenchmarkConfig(
        name="decode",
        launcher=InlineConfig(),
        backend=LlamaCppConfig(device="cpu", model="local", task="text-generation", filename=path),
        scenario=InferenceConfig(
            latency=True,
            memory=False,
            warmup_runs=1,
            iterations=iterations,
            duration=0,
            input_shapes={"batch_size": 1, "sequence_length": 8, "vocab_size": 320},
            generate_kwargs={"max_new_tokens": tokens, "min_new_tokens": tokens},
        ),
    )
)
print(report.to_dict()["decode"]["throughput"]["value"])
