# logits: a file with one tensor, the same for any number of threads; what cannot be run is refused.
expect 0 halftone logits "$TINY/llama" --ids 1,2,3 -o a.safetensors
expect 0 halftone logits "$TINY/llama" --ids 1,2,3 -o b.safetensors --threads 1 --json >out.json
check "$(json out.json schema tokens)" = "halftone.logits/1
3"
cmp a.safetensors b.safetensors || fail "logits depend on the number of threads"
expect 0 halftone inspect a.safetensors --json >file.json
check "$(json file.json tensors.0.name tensors.0.dtype tensors.0.shape)" = "logits
f32
[3,320]"
printf '1 2\n3\n' >ids.txt
expect 0 halftone logits "$TINY/llama" --ids @ids.txt -o c.safetensors --quiet >/dev/null
cmp a.safetensors c.safetensors
expect 1 halftone logits "$TINY/llama" --ids 1,2,3 -o a.safetensors
expect 0 halftone logits "$TINY/llama" --ids 1,2,3 -o a.safetensors --overwrite >/dev/null
expect 2 halftone logits "$TINY/llama" --ids 320 -o d.safetensors
expect 2 halftone logits "$TINY/llama" --ids "" -o d.safetensors
expect 2 halftone logits "$TINY/llama" --ids 1
expect 1 halftone logits "$TINY/llama" --ids 1 -o missing/d.safetensors
check ! -e d.safetensors
