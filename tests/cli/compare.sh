# compare: worst first, equal ones said to be equal.
expect 0 halftone quantize "$TINY/llama" -o q --scheme int8-w --quiet >/dev/null
expect 0 halftone compare "$TINY/llama" q >text
expect 0 halftone compare "$TINY/llama" q --json >out.json
check "$(json out.json schema)" = halftone.compare/1
check -n "$(json out.json tensors.0.name tensors.0.sqnr_db tensors.0.max_abs)"
count=$(json out.json tensors.#)
json out.json tensors | tr '{' '\n' | sed -n 's/.*"sqnr_db":\([0-9][0-9.]*\).*/\1/p' >db
sort -n db | cmp - db || fail "not sorted by error"
check "$(json out.json tensors.0.sqnr_db | cut -d. -f1)" -ge 35
check "$(halftone compare "$TINY/llama" "$TINY/llama" --json | json - equal)" = "$count"
check "$(halftone compare "$TINY/llama" q --top 3 --json | json - tensors.#)" = 3
check "$(halftone compare "$TINY/llama" q --different --json | json - tensors.#)" -lt "$count"
expect 0 halftone compare "$TINY/llama" "$TINY/qwen2" --json >other.json
json other.json tensors.0.note | grep -q . || fail "no note on a tensor that differs in kind"
expect 3 halftone compare "$TINY/llama" missing
expect 2 halftone compare "$TINY/llama"
