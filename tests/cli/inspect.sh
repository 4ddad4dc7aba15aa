# inspect: a directory, a file; text and JSON; nothing readable is exit 3.
expect 0 halftone inspect "$TINY/llama"
expect 0 halftone inspect "$TINY/llama/model.safetensors" --tensors >text
check "$(grep -c 'bf16' text)" -ge 21
expect 0 halftone inspect "$MODEL" --json >out.json
check "$(json out.json schema architecture)" = "halftone.inspect/1
LlamaForCausalLM"
check "$(json out.json parameters)" -gt 7000000
check "$(json out.json bytes)" = $((2 * $(json out.json parameters)))
check "$(json out.json bits_per_weight)" = 16.0
check "$(json out.json tensors.0.name tensors.0.dtype tensors.0.format tensors.0.shape tensors.0.bytes tensors.0.file)" = \
    "model.embed_tokens.weight
bf16
bf16
[4096,256]
2097152
model.safetensors"
check "$(json out.json tensors.0.offset)" -gt 8
expect 3 halftone inspect missing
expect 3 halftone inspect "$MODEL/tokenizer.json"
expect 2 halftone inspect

# A header of 100,000 tensors in 16 shards; how long that takes is startup.sh's question.
make_checkpoint big --tensors 100000
expect 0 halftone inspect big --json >big.json
check "$(json big.json tensors.#)" = 100000
