"""Serve a pair with whichever xllamacpp is importable: `serve_xllamacpp.py MAIN [DRAFT N_DRAFT]`.

A stand-alone script for interpreters that have an old xllamacpp and nothing of ours. Attribute names moved between
releases, so each setting is tried under all its names. Says `READY http://host:port` and serves until stdin ends.
"""

import os
import sys


def put(target, value, *paths):
    """Set the first of the dotted attributes that exists; whether one did."""
    for path in paths:
        owner, *rest = path.split(".")
        holder, name = target, owner
        for step in rest:
            holder, name = getattr(holder, name, None), step
        if holder is not None and hasattr(holder, name):
            setattr(holder, name, value)
            return True
    return False


def main(model, draft=None, n_draft="0"):
    """Load and serve."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    put(params, model, "model.path")
    put(params, 4096, "n_ctx")
    put(params, 1, "cpuparams.n_threads")
    put(params, 1, "cpuparams_batch.n_threads")
    put(params, 1, "n_parallel")
    put(params, 0, "n_gpu_layers")
    put(params, 0, "port")
    put(params, 0, "cache_ram_mib")
    put(params, False, "fit_params")
    put(params, True, "endpoint_metrics")
    put(params, True, "endpoint_slots")
    put(params, False, "ctx_shift")
    if draft:
        put(params, draft, "speculative.draft.mparams.path", "speculative.mparams_dft.path", "speculative.model.path")
        put(params, int(n_draft), "speculative.draft.n_max", "speculative.n_max")
        put(params, 0, "speculative.draft.n_min", "speculative.n_min")
        put(params, 0.0, "speculative.draft.p_min", "speculative.p_min")
        put(params, 4096, "speculative.n_ctx")
        put(params, 1, "speculative.draft.cpuparams.n_threads", "speculative.cpuparams.n_threads")
        put(params, 1, "speculative.draft.cpuparams_batch.n_threads", "speculative.cpuparams_batch.n_threads")
        kinds = getattr(xllamacpp, "common_speculative_type", None)
        simple = getattr(kinds, "COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE", None)
        if simple is not None:
            put(params, [simple], "speculative.types")
    server = xllamacpp.Server(params)
    sys.stdout.write(f"\nREADY {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
