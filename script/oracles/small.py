"""Compare Halftone with independent libraries from PyPI: tokenizers, safetensors, gguf, ml_dtypes.

    small.py PROGRAM    (build/<preset>/cli/halftone; decode_checkpoint and libhalftone.so are found beside it)

Ends with "N passed, N failed, N skipped".
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
BUILD = PROGRAM.parents[1]
results = {"passed": 0, "failed": 0}


def check(name, ok, detail=""):
    results["passed" if ok else "failed"] += 1
    if not ok:
        print(f"FAIL {name}: {detail}")


def halftone(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"halftone {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def decoded(path, folder):
    out = pathlib.Path(folder) / "decoded.safetensors"
    subprocess.run([BUILD / "tests" / "decode_checkpoint", path, out], check=True)
    return load_file(out)


def tokenizer_ids():
    model = ROOT / "models" / "novel-7m"
    reference = Tokenizer.from_file(str(model / "tokenizer.json"))
    for text in (ROOT / "tests/data/text/sample-a.txt", ROOT / "tests/data/text/sample-b.txt"):
        got = json.loads(halftone("tokenize", model, "--text", text, "--json"))["ids"]
        want = reference.encode(text.read_text(encoding="utf-8")).ids
        check(f"tokens of {text.name}", got == want, f"{len(got)} ids, library {len(want)}")


def safetensors_files(folder):
    source = ROOT / "models" / "novel-7m"
    out = pathlib.Path(folder) / "model"
    halftone("quantize", source, "-o", out, "--scheme", "mxfp4-w", "--shard-size", "1MiB")
    index = json.loads((out / "model.safetensors.index.json").read_text())
    seen = set()
    for shard in sorted(set(index["weight_map"].values())):
        with safetensors.safe_open(out / shard, framework="numpy") as file:
            for name in file.keys():
                seen.add(name)
                check(f"index of {name}", index["weight_map"][name] == shard)
    check("index names every tensor", seen == set(index["weight_map"]))
    listed = json.loads(halftone("inspect", source, "--json"))["tensors"]
    with safetensors.safe_open(source / "model.safetensors", framework="numpy") as file:
        check("inspect names", sorted(t["name"] for t in listed) == sorted(file.keys()))
        for tensor in listed:
            view = file.get_slice(tensor["name"])
            check(f"inspect {tensor['name']}", list(tensor["shape"]) == list(view.get_shape()), tensor)


def gguf_blocks(folder):
    rng = np.random.default_rng(1)
    path = pathlib.Path(folder) / "blocks.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    want = {}
    x = rng.standard_normal((4, 512)).astype(np.float32)
    for kind in gguf.GGMLQuantizationType:
        try:
            block = gguf.quants.quantize(x, kind)
        except NotImplementedError:
            continue
        if kind.name in ("F32", "F16", "BF16"):
            continue
        writer.add_tensor(f"t.{kind.name}", block, raw_dtype=kind)
        want[f"t.{kind.name}"] = gguf.quants.dequantize(block, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    got = decoded(path, folder)
    check("gguf tensors", sorted(got) == sorted(want), sorted(set(want) ^ set(got)))
    for name in want:
        if name in got:
            check(f"gguf {name}", np.array_equal(got[name], want[name]), np.abs(got[name] - want[name]).max())


def element_casts():
    library = ctypes.CDLL(str(BUILD / "src" / "libhalftone.so"))
    library.ht_dtype_find.argtypes = [ctypes.c_char_p]
    library.ht_element_encode.argtypes = [ctypes.c_int, ctypes.c_float]
    library.ht_element_encode.restype = ctypes.c_uint32
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.standard_normal(20000) * 10.0 ** rng.integers(-8, 6, 20000), [0.0, -0.0]])
    values = values.astype(np.float32)
    for name, dtype, largest in (
        ("f8_e4m3", ml_dtypes.float8_e4m3fn, 448),
        ("f8_e5m2", ml_dtypes.float8_e5m2, 57344),
        ("f8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, 240),
        ("f8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, 57344),
        ("f6_e2m3", ml_dtypes.float6_e2m3fn, 7.5),
        ("f6_e3m2", ml_dtypes.float6_e3m2fn, 28),
        ("f4_e2m1", ml_dtypes.float4_e2m1fn, 6),
    ):
        code = library.ht_dtype_find(name.encode())
        inside = np.clip(values, -largest, largest)
        want = inside.astype(dtype).view(np.uint8)
        got = np.array([library.ht_element_encode(code, float(v)) for v in values], dtype=np.uint8)
        check(f"cast to {name}", np.array_equal(got, want), f"{(got != want).sum()} codes differ")


with tempfile.TemporaryDirectory() as scratch:
    tokenizer_ids()
    safetensors_files(scratch)
    gguf_blocks(scratch)
    element_casts()
print(f"{results['passed']} passed, {results['failed']} failed, 0 skipped")
sys.exit(results["failed"] != 0)
