# run: greedy text is the reference's; streamed text is whole UTF-8; sampling follows the seed.
prompt="It was a dark and stormy night"
expect 0 halftone run "$MODEL" -p "$prompt" -n 24 2>stats
grep -q 'tokens at' stats || fail "no rates on standard error"
expect 0 halftone run "$MODEL" -p "$prompt" -n 24 --json --threads 1 >out.json
check "$(json out.json schema ids.#)" = "halftone.run/1
24"
check -n "$(json out.json prefill_tokens_per_second decode_tokens_per_second peak_memory_bytes)"
check "$(json out.json text)" = "$(halftone run "$MODEL" -p "$prompt" -n 24 --quiet)"
printf '%s' "$prompt" >prompt.txt
check "$(halftone run "$MODEL" --file prompt.txt -n 8 --json | json - text)" = "$(halftone run "$MODEL" -p "$prompt" -n 8 --quiet)"
sample() { halftone run "$MODEL" -p "$prompt" -n 16 --temperature 1.5 --quiet --ignore-eos --seed "$1"; }
sample 1 >a
sample 1 >b
sample 2 >c
cmp a b || fail "the same seed gave two texts"
cmp -s a c && fail "two seeds gave one text"
iconv -f UTF-8 -t UTF-8 a >/dev/null || fail "not UTF-8"
check "$(halftone run "$MODEL" -p "$prompt" -n 16 --temperature 1.5 --top-k 1 --quiet)" = "$(halftone run "$MODEL" -p "$prompt" -n 16 --quiet)"
expect 2 halftone run "$MODEL"
expect 2 halftone run "$MODEL" -p ""
expect 2 halftone run "$MODEL" -p a --top-p 0
expect 3 halftone run missing -p a
