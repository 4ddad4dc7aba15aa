# plan: every tensor, what it gets and why; nothing is computed and nothing written.
expect 0 halftone plan "$MODEL" --scheme mxfp4 | sed '/^time/d; /^memory/d'
expect 0 halftone plan "$MODEL" --scheme mxfp4 --json >out.json
check "$(json out.json schema)" = halftone.plan/1
check -n "$(json out.json bytes_before bytes_after bits_per_weight peak_memory_bytes seconds)"
check -n "$(json out.json tensors.1.name tensors.1.asked tensors.1.got tensors.1.bytes_before tensors.1.bytes_after)"
check "$(json out.json tensors.1.reason tensors.#)" != ""
# The dry run of quantize is the plan.
expect 0 halftone quantize "$MODEL" --scheme mxfp4 --dry-run --json -o out | sed '/"seconds"/d' >dry.json
sed '/"seconds"/d' out.json >plan.json
cmp plan.json dry.json || fail "quantize --dry-run is not plan"
check ! -e out

# Settings reach the recipe; what means nothing is refused.
expect 0 halftone plan "$MODEL" --scheme int4 --set scale_dtype=bf16 --set int_rule=full --json >out.json
check "$(json out.json quantized)" -gt 0
expect 2 halftone plan "$MODEL" --scheme int4 --set damp=0.1
expect 2 halftone plan "$MODEL" --scheme int4 --set int_rule
expect 2 halftone plan "$MODEL"
expect 2 halftone plan "$MODEL" --scheme mxfp4 --recipe r.yaml
expect 2 halftone plan "$MODEL" --scheme mxpf4
expect 2 halftone plan "$MODEL" --scheme mxfp4 --method rtm
expect 2 halftone plan "$MODEL" --scheme mxfp4 --profile compresed-tensors
expect 3 halftone plan missing --scheme mxfp4
expect 3 halftone plan "$MODEL" --recipe missing.yaml
