# Pruned weights: the zeros are there and verify sees when they are not; patterns that a scheme cannot hold are refused.
text=$ROOT/tests/data/text/sample-a.txt
run() { # run DIRECTORY OPTIONS...
    out=$1
    shift
    expect 0 halftone quantize "$MODEL" -o "$out" --data "$text" --samples 2 --length 64 --quiet "$@" >/dev/null
}
run one --scheme mxfp4-w --method wanda --set pattern=2:4 --threads 1 --report one.html
run two --scheme mxfp4-w --method wanda --set pattern=2:4 --threads 2
diff -r one two >/dev/null || fail "threads change bytes"
grep -q '"sparsity": "2:4"' one/config.json || fail "the record does not say how many are zero"
grep -q '"sparsity": 0.[5-9]' one.json || fail "the report does not say how many are zero"
expect 0 halftone verify one --against "$MODEL" >seen
grep -q '^ok *sparsity' seen || fail "verify does not look at the zeros"
run three --scheme q6_k --profile plain --method gptq --set sparsity=0.3
expect 0 halftone verify three --against "$MODEL" >seen
grep -q '^ok *sparsity' seen || fail "verify does not look at the zeros of profile plain"
run four --scheme bf16 --profile plain --method wanda --set sparsity=0.25
expect 0 halftone verify four --against "$MODEL" >seen
grep -q '^ok *sparsity' seen || fail "verify does not look at the zeros of float weights"

sed 's/"sparsity": "0.3"/"sparsity": "2:4"/' three/config.json >config && mv config three/config.json
expect 6 halftone verify three >seen
grep -q '^FAIL *sparsity' seen || fail "verify believes the record"

expect 2 halftone quantize "$MODEL" -o out --scheme q4_k --profile plain --method wanda --data "$text"
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method gptq --set pattern=2:4 --set sparsity=0.6 --data "$text"
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method wanda --set pattern=1:4 --data "$text"
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method rtn --set sparsity=0.5
check ! -e out
