# verify: a changed byte, a missing tensor, another original: exit 6, and the check that failed is named.
expect 0 halftone quantize "$TINY/llama" -o q --scheme mxfp4 --quiet >/dev/null
expect 0 halftone verify q >text
grep -q '^ok ' text || fail "no check passed"
expect 0 halftone verify q --against "$TINY/llama" --json >out.json
check "$(json out.json schema ok)" = "halftone.verify/1
true"
check "$(json out.json checks.#)" -ge 4
check -n "$(json out.json checks.0.name checks.0.ok checks.0.detail)"
for reader in vllm transformers; do
    expect 0 halftone verify q --for $reader >/dev/null
done
expect 2 halftone verify q --for nobody

cp -r q damaged
chmod -R u+w damaged
size=$(wc -c <damaged/model.safetensors)
for at in $((size - 3000)) $((size / 2)) $((size / 3)); do
    printf '\377\377\377\377\377\377\377\377' | dd of=damaged/model.safetensors bs=1 seek=$at conv=notrunc 2>/dev/null
done
expect 6 halftone verify damaged --against "$TINY/llama" >text
grep -q '^FAIL' text || fail "no failed check shown"
expect 6 halftone verify q --against "$TINY/qwen2" >/dev/null
expect 3 halftone verify missing
