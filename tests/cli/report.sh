# Reports: a page that needs nothing else and its JSON, of quantize and of eval; a place that cannot be written.
text=$ROOT/tests/data/text/sample-a.txt
expect 0 halftone quantize "$MODEL" -o out --scheme mxfp4-w --quiet --report report.html --eval "$text" --eval-context 128 \
    --eval-tokens 512 >/dev/null
for words in '^<!DOCTYPE html>' '<h2>Quality' '<h2>Size' '<h2>Error over the blocks' '<h2>Worst tensors' '<svg ' \
    'prefers-color-scheme' '<code>halftone quantize'; do
    grep -q -e "$words" report.html || fail "no $words in the page"
done
grep -q -e 'http' -e '<script' -e 'src=' report.html && fail "the page asks for something else"
check "$(json report.json schema summary.quantized evaluation.windows)" = "halftone.report/1
56
4"
for key in version command input output threads peak_memory_bytes summary.bits_per_weight tensors.0.name tensors.0.error \
    evaluation.kl_p99 evaluation.kl_histogram.3.from coverage stages gates; do
    check -n "$(json report.json $key)"
done
check "$(ls | tr '\n' ' ')" = "out report.html report.json "

# The same text and models give the same page but for the time that it took.
expect 0 halftone eval out --text "$text" --context 128 --tokens 512 --against "$MODEL" --quiet --report one.html >/dev/null
grep -q '<h1>Evaluation report' one.html || fail "no title"
check "$(json one.json evaluation.kl_mean)" = "$(json report.json evaluation.kl_mean)"

# A place that cannot be written is found out before anything is computed.
expect 1 halftone quantize "$MODEL" -o other --scheme mxfp4-w --quiet --report missing/report.html
check ! -e other
expect 2 halftone quantize "$MODEL" -o other --scheme mxfp4-w --quiet --report "./"
check ! -e other
check "$(wc -l <"$OUTPUT/stderr")" -eq 2
