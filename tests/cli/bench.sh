# bench: rows with a rate, a probe of the same run and the fraction of it.
keys="op kernel device m n k seconds gmac_s gflop_s gb_s probe fraction"
rows() {
    for key in $keys; do
        json "$1" rows.0 | grep -q "\"$key\"" || fail "$1: no key $key"
    done
    check "$(json "$1" schema)" = halftone.bench/1
}
expect 0 halftone bench cast --what mxfp4 -m 16 -k 256 --rounds 1 --json >cast.json
rows cast.json
check "$(json cast.json rows.#)" = 6
expect 0 halftone bench matmul --what int4 -m 2 -n 64 -k 256 --rounds 1 --json >matmul.json
rows matmul.json
expect 0 halftone bench kernels -m 1 -n 64 -k 256 --rounds 1 --json >kernels.json
rows kernels.json
expect 0 halftone bench dense -m 16 -k 32 --rounds 1 --json >dense.json
rows dense.json
expect 0 halftone bench gptq --what mxfp4 -n 16 -k 64 --rounds 1 --json >gptq.json
rows gptq.json
check "$(json gptq.json rows.#)" = 2
expect 0 halftone bench model --model "$MODEL" --rounds 1 --json >model.json
rows model.json
expect 0 halftone bench cast --what mxfp8 -m 16 -k 256 --rounds 1 >text
grep -q 'quantize mxfp8' text || fail "no row"
expect 2 halftone bench
expect 2 halftone bench casts
expect 2 halftone bench model
