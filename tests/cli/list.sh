# list: every table prints, as text and as JSON, and what it names is accepted.
for what in schemes formats methods profiles architectures kernels; do
    expect 0 halftone list $what >text
    check "$(wc -l <text)" -ge 2
    expect 0 halftone list $what --json >$what.json
    check "$(json $what.json schema what)" = "halftone.list/1
$what"
    check "$(json $what.json items.#)" -ge 1
    check -n "$(json $what.json items.0.name items.0.summary)"
done
for scheme in mxfp8 mxfp4 mxfp4-w mxfp4-a8 nvfp4 nvfp4-w fp8 fp8-tensor fp8-block int8 int8-w int4 nf4 q4_k; do
    json schemes.json items | grep -q "\"$scheme\"" || fail "no scheme $scheme"
done
json methods.json items | grep -q '"rtn"' || fail "no method rtn"
json profiles.json items | grep -q '"compressed-tensors"' || fail "no profile compressed-tensors"
check "$(json architectures.json items.#)" -ge 10
expect 2 halftone list
expect 2 halftone list schemas
