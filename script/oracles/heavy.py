"""transformers and compressed-tensors open what Halftone wrote, and decode it to the same values.

    heavy.py PROGRAM [SCHEME...]

For each scheme: quantize a model, load the result with transformers (compressed-tensors decompresses every linear), and
compare each weight with Halftone's own decoding, and the logits of weight-only schemes with Halftone's own run.
Ends with "N passed, N failed, N skipped".
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
BUILD = PROGRAM.parents[1]
SCHEMES = sys.argv[2:] or [
    "mxfp4-w", "mxfp4", "mxfp8-w", "mxfp8", "nvfp4-w", "nvfp4",
    "int4", "int4-g32", "int4-g32-asym", "int8-w", "int8", "int8-g128",
    "fp8-w", "fp8", "fp8-tensor", "fp8-block", "fp8-static", "int8-static",
]
IDS = [969, 313, 260, 1011, 282, 349, 285, 1459, 895]
results = {"passed": 0, "failed": 0}


def check(name, ok, detail=""):
    results["passed" if ok else "failed"] += 1
    print(f"{'pass' if ok else 'FAIL'} {name} {detail}")


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def load(path):
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, quantization_config=CompressedTensorsConfig(dequantize=True)
    )


def scheme_opens(scheme, scratch):
    out = scratch / scheme
    text = ["--data", ROOT / "tests/data/text/sample-a.txt", "--samples", "4", "--length", "64"]
    run(PROGRAM, "quantize", ROOT / "models/novel-7m", "-o", out, "--scheme", scheme, "--quiet",
        *(text if scheme.endswith("-static") else []))
    run(BUILD / "tests/decode_checkpoint", out, scratch / "decoded.safetensors")
    ours = load_file(scratch / "decoded.safetensors")
    model = load(out)
    state = {name: value for name, value in model.state_dict().items() if name.endswith(".weight")}
    worst, compared = 0.0, 0
    # compressed-tensors decodes NVFP4 into bf16: there the comparison is with our f32 values rounded once to bf16.
    rounded = torch.bfloat16 if scheme.startswith("nvfp4") else torch.float32
    for name, want in ours.items():
        if name not in state:
            continue
        got = state[name].detach().to(torch.float32).numpy()
        if got.ndim == 2:
            want = torch.from_numpy(want).to(rounded).to(torch.float32).numpy()
        scale = np.abs(want).max() or 1.0
        worst = max(worst, float(np.abs(got - want).max() / scale))
        compared += 1
    check(f"{scheme}: {compared} weights", compared >= 50 and worst < 1e-6, f"largest difference {worst:.2e}")
    if rounded is torch.float32 and (scheme.endswith("-w") or scheme.startswith("int4")):
        run(PROGRAM, "logits", out, "--overwrite", "--ids", ",".join(map(str, IDS)), "-o", scratch / "logits.safetensors")
        got = load_file(scratch / "logits.safetensors")["logits"]
        with torch.no_grad():
            want = model(torch.tensor([IDS])).logits[0].numpy()
        difference = float(np.abs(got - want).max())
        check(f"{scheme}: logits", difference < 1e-3, f"largest difference {difference:.2e}")


with tempfile.TemporaryDirectory() as scratch:
    for scheme in SCHEMES:
        try:
            scheme_opens(scheme, pathlib.Path(scratch))
        except Exception as error:  # a scheme that does not open is one failure, not the end
            check(f"{scheme}: opens", False, f"{type(error).__name__}: {str(error)[:300]}")
print(f"{results['passed']} passed, {results['failed']} failed, 0 skipped")
sys.exit(results["failed"] != 0)
