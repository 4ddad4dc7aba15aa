# eval: the protocol's keys; the same number for any number of threads; a text that is too short.
text=$ROOT/tests/data/text/sample-a.txt
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --json --quiet >out.json
check "$(json out.json schema tokens windows)" = "halftone.eval/1
508
4"
for key in perplexity nll nll_stderr seconds tokens_per_second kl_mean kl_p99 top1_agreement; do
    check -n "$(json out.json $key)"
done
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --json --quiet --threads 1 >one.json
check "$(json out.json perplexity nll)" = "$(json one.json perplexity nll)"
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 256 --against "$MODEL" --json --quiet >same.json
check "$(json same.json kl_mean top1_agreement)" = "0.0
1.0"
expect 0 halftone eval "$MODEL" --text "$text" --context 128 --tokens 512 --quiet >lines
grep -q '^  perplexity ' lines || fail "no perplexity line"
head -c 200 "$text" >short.txt
expect 2 halftone eval "$MODEL" --text short.txt
expect 2 halftone eval "$MODEL"
expect 2 halftone eval "$MODEL" --text "$text" --context 1
expect 3 halftone eval "$MODEL" --text missing.txt
