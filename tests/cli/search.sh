# search: the recipe of a budget, printed or in a file, that quantize takes as it is; targets that cannot be had.
TEXT=$ROOT/tests/data/text/sample-a.txt
FEW="--data $TEXT --samples 2 --length 32 --method rtn --profile plain --candidates int3-g32,mxfp4-w,int5-g64,mxfp8-w"
expect 0 halftone search "$MODEL" --target-bpw 4.5 $FEW -o recipe.yaml --json --quiet >out.json
check "$(json out.json schema)" = halftone.search/1
check -n "$(json out.json recipe bits_per_weight linear_bytes weights bytes_after output_bytes loss bound seconds)"
check -n "$(json out.json uniform.scheme samples length exchanges peak_memory_bytes)"
check -n "$(json out.json candidates.0.scheme candidates.0.bits candidates.0.loss candidates.0.weights)"
check -n "$(json out.json units.0.name units.0.scheme units.0.slope units.0.tensors.0 units.0.offers.3.bytes)"
check -n "$(json out.json frontier.0.bits_per_weight frontier.0.bytes frontier.0.loss)"
# The same recipe on standard output, and for another number of threads.
expect 0 halftone search "$MODEL" --target-bpw 4.5 $FEW --threads 3 --quiet >printed.yaml
cmp printed.yaml recipe.yaml || fail "the printed recipe is another one"
# What quantize makes of it has the size that was said.
expect 0 halftone plan "$MODEL" --recipe recipe.yaml --json >plan.json
check "$(json plan.json bytes_after)" = "$(json out.json bytes_after)"
expect 0 halftone quantize "$MODEL" --recipe recipe.yaml -o small --quiet >text
check "$(cat small/* | wc -c)" = "$(json out.json output_bytes)"
# A table for people.
expect 0 halftone search "$MODEL" --target-size 6MB $FEW -o sized.yaml --quiet >text
grep -q "loss if all" text && grep -q "sized.yaml: 56 linears" text && grep -q "^against" text || fail "the table"
# Refused, naming limits; nothing is written.
expect 2 halftone search "$MODEL" --target-bpw 2.5 $FEW -o none.yaml
expect 2 halftone search "$MODEL" --target-bpw 12 $FEW -o none.yaml
expect 2 halftone search "$MODEL" $FEW -o none.yaml
expect 2 halftone search "$MODEL" --target-bpw 4.5 -o none.yaml
expect 2 halftone search "$MODEL" --target-bpw 4.5 --data "$TEXT" --candidates , -o none.yaml
expect 2 halftone search "$MODEL" --target-bpw 4.5 --data "$TEXT" --candidates mxfp4-w,mxpf8 -o none.yaml
expect 2 halftone search "$MODEL" --target-bpw x $FEW
expect 3 halftone search missing --target-bpw 4.5 $FEW
expect 3 halftone search "$MODEL" --target-bpw 4.5 --data missing.txt
expect 1 halftone search "$MODEL" --target-bpw 4.5 --data "$TEXT" --candidates q4_k
check ! -e none.yaml
