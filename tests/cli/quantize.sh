# quantize: every scheme that can be stored is written, proved and told apart from the original.
text=$ROOT/tests/data/text/sample-a.txt
for scheme in mxfp4 mxfp8 mxfp4-w mxfp8-w nvfp4 nvfp4-w int8 int8-w int4-g32 int4-g32-asym fp8 fp8-tensor fp8-block fp8-w; do
    expect 0 halftone quantize "$TINY/llama" -o $scheme --scheme $scheme --json --quiet >$scheme.json
    [ -d $scheme ] || continue
    expect 0 halftone verify $scheme --against "$TINY/llama" >verify
    expect 0 halftone logits $scheme --ids 1,2,3 -o $scheme.safetensors >/dev/null
done
check "$(json mxfp4.json schema)" = halftone.quantize/1
check -n "$(json mxfp4.json output bytes_before bytes_after bits_per_weight peak_memory_bytes seconds)"
check -n "$(json mxfp4.json input_bytes_per_second copy_bytes_per_second)"
for key in name asked got reason bytes_before bytes_after error method fallback; do
    json mxfp4.json tensors.0 | grep -q "\"$key\"" || fail "no key $key"
done
for file in config.json generation_config.json model.safetensors; do
    check -s mxfp4/$file
done
check ! -e mxfp4/.halftone

# The closing table.
expect 0 halftone quantize "$MODEL" -o model --scheme mxfp4-w >text 2>/dev/null
for words in 'largest error' '^size  ' 'bits per quantized weight' '^rate  .*of input; file copy .*memory copy'; do
    grep -q "$words" text || fail "no line $words"
done
check -s model/tokenizer.json
cmp model/tokenizer.json "$MODEL/tokenizer.json"

# An output that exists stays as it is, unless told otherwise.
before=$(cksum <mxfp4/model.safetensors)
expect 1 halftone quantize "$TINY/llama" -o mxfp4 --scheme mxfp8
check "$(cksum <mxfp4/model.safetensors)" = "$before"
expect 0 halftone quantize "$TINY/llama" -o mxfp4 --scheme mxfp8 --overwrite --quiet >/dev/null
cmp mxfp4/model.safetensors mxfp8/model.safetensors || fail "overwrite"

expect 2 halftone quantize "$TINY/llama" --scheme mxfp4
expect 2 halftone quantize "$TINY/llama" -o out
expect 2 halftone quantize "$TINY/llama" -o out --scheme nonsense
expect 4 halftone quantize "$TINY/llama" -o out --scheme mxfp4 --resume required
check ! -e out
expect 3 halftone quantize missing -o out --scheme mxfp4
check ! -e out

# A recipe's gates are judged on the text of --eval, against the input: exit 4, the result stays to be looked at.
printf 'version: 1\npreset: mxfp4-w\ngates: {max_kl: 0.01}\n' >gates.yaml
expect 2 halftone quantize "$MODEL" -o gated --recipe gates.yaml --quiet
check ! -e gated
expect 3 halftone quantize "$MODEL" -o gated --recipe gates.yaml --quiet --eval missing.txt
check ! -e gated
expect 4 halftone quantize "$MODEL" -o gated --recipe gates.yaml --quiet --eval "$text" --eval-context 128 --eval-tokens 512 \
    --json >gated.json
check "$(json gated.json evaluation.windows evaluation.gates.0.ok)" = "4
false"
expect 0 halftone verify gated --against "$MODEL" >/dev/null
expect 0 halftone quantize "$MODEL" -o mild --scheme mxfp8-w --quiet --eval "$text" --eval-context 128 --eval-tokens 512 >mild.txt
grep -q '^  top-1 agreement ' mild.txt || fail "no evaluation is printed"

# --hessian-act is --set hessian=quantized: the same bytes, other ones than without.
gptq() {
    out=$1
    shift
    expect 0 halftone quantize "$MODEL" -o "$out" --scheme mxfp4 --method gptq --data "$text" --samples 2 --length 64 --quiet "$@" >/dev/null
}
gptq act --hessian-act
gptq setting --set hessian=quantized
gptq float
diff -r act setting >/dev/null || fail "--hessian-act is not --set hessian=quantized"
cmp -s act/model.safetensors float/model.safetensors && fail "--hessian-act changes nothing"
expect 2 halftone quantize "$MODEL" -o out --scheme mxfp4 --hessian-act
halftone quantize --help | grep -q '^      --hessian-act  ' || fail "the help shows a value"
