# eval: the protocol's keys; the same number for any number of threads; a text that is too short.
text=$ROOT/tests/data/text/sample-a.txt
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --json --quiet >out.json
check "$(json out.json schema tokens windows)" = "halftone.eval/1
508
4"
for key in perplexity nll nll_stderr seconds tokens_per_second base_perplexity base_nll base_nll_stderr nll_change \
    nll_change_stderr kl_mean kl_stderr kl_median kl_p90 kl_p95 kl_p99 kl_p999 kl_max top1_agreement top1_stderr gates; do
    check -n "$(json out.json $key)"
done
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --json --quiet --threads 1 >one.json
check "$(json out.json perplexity nll)" = "$(json one.json perplexity nll)"
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 256 --against "$MODEL" --json --quiet >same.json
check "$(json same.json kl_mean kl_max nll_change nll_change_stderr top1_agreement)" = "0.0
0.0
0.0
0.0
1.0"

# Quantized keys and values: another number, near the first; names are checked.
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --kv-cache int8 --json --quiet >cache.json
check "$(json cache.json perplexity)" != "$(json out.json perplexity)"
expect 2 halftone eval "$MODEL" --text "$text" --context 128 --kv-cache int3

# Attention that rounds: near the float one, and each layer says what ran.
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --attention fp8-hadamard --json >rounded.json 2>rounded.err
check "$(json rounded.json perplexity)" != "$(json out.json perplexity)"
check "$(json rounded.json attention.0.layer attention.0.kernel attention.0.precision)" = "0
cpu_fp8
fp8-hadamard"
grep -q "attention of layers 0 to .*: cpu_fp8, fp8-hadamard; the model is on the host" rounded.err || fail "$(cat rounded.err)"
expect 2 halftone eval "$MODEL" --text "$text" --context 128 --attention fp4

# Gates: broken ones end with 4 after the result is printed; those that compare need a base.
expect 0 halftone quantize "$MODEL" -o small --scheme mxfp4-w --quiet >/dev/null
printf 'version: 1\npreset: mxfp4-w\ngates: {max_kl: 0.01, min_agreement: 0.5}\n' >gates.yaml
gated() { halftone eval small --text "$text" --context 128 --tokens 512 --quiet "$@"; }
expect 4 gated --gates gates.yaml --against "$MODEL" --json >gated.json 2>gated.err
check "$(json gated.json gates.0.name gates.0.ok gates.1.name gates.1.ok)" = "max_kl
false
min_agreement
true"
check "$(wc -l <gated.err)" -eq 1
grep -q '^halftone: eval: quality gate: mean KL divergence 0.[0-9]* nats, max_kl is 0.01$' gated.err || fail "$(cat gated.err)"
expect 2 gated --gates gates.yaml
printf 'version: 1\npreset: mxfp4-w\ngates: {max_perplexity: 100}\n' >gates.yaml
expect 0 gated --gates gates.yaml >/dev/null
printf 'version: 1\npreset: mxfp4-w\n' >gates.yaml
expect 2 gated --gates gates.yaml
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --quiet >lines
grep -q '^  perplexity ' lines || fail "no perplexity line"
head -c 200 "$text" >short.txt
expect 2 halftone eval "$MODEL" --text short.txt
expect 2 halftone eval "$MODEL"
expect 2 halftone eval "$MODEL" --text "$text" --context 1
expect 3 halftone eval "$MODEL" --text missing.txt
