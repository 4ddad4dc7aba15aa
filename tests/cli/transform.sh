# Methods in stages: the prepared model is gone afterwards, the same bytes for any threads, and what makes no sense is refused.
text=$ROOT/tests/data/text/sample-a.txt
run() { # run DIRECTORY OPTIONS...
    out=$1
    shift
    expect 0 halftone quantize "$MODEL" -o "$out" --scheme int4 --profile plain --data "$text" --samples 2 --length 64 --quiet "$@" >/dev/null
    check ! -e "$out.smooth"
    check ! -e "$out.rotate"
}
run one --method smooth+gptq --threads 1
run two --method smooth+gptq --threads 2
diff -r one two >/dev/null || fail "threads change bytes"
grep -q 'smooth+gptq' one/config.json || fail "the record does not name the methods"
expect 0 halftone verify one --against "$MODEL" >verified
grep -q 'kept.*the method edits the float model first' verified || fail "verify says nothing about the edited model"
expect 0 halftone eval one --text "$text" --context 128 --tokens 512 --against "$MODEL" --json --quiet >out.json
check "$(json out.json top1_agreement | cut -c1-2)" = "0."
# A stage that an interrupted run left is used again; a model in its place is left alone.
printf 'version: 1\npreset: int4\nprofile: plain\nmethod: [rotate, smooth, hqq]\noptions: {alpha: 0.6}\n' >recipe.yaml
expect 0 halftone quantize "$MODEL" -o three --recipe recipe.yaml --data "$text" --samples 2 --length 64 --quiet >/dev/null
check ! -e three.rotate
check ! -e three.smooth
expect 0 halftone quantize "$MODEL" -o four.rotate --scheme int4 --quiet >/dev/null
expect 1 halftone quantize "$MODEL" -o four --scheme int4 --method rotate --quiet
check -e four.rotate/config.json
check ! -e four

expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method smooth
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method gptq+smooth
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method smooth+awq
expect 2 halftone quantize "$MODEL" -o out --scheme int4 --method smooth --set placement=beside
expect 1 halftone quantize "$MODEL" -o out --scheme int4 --method smooth --set placement=apply
check ! -e out
