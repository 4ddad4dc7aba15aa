# A run killed at any point goes on to the same bytes; another run's leftovers are not mixed in.
make_checkpoint model --layers 12 --hidden 512 --ffn 1536
expect 0 halftone quantize model -o whole --scheme mxfp4 --quiet >/dev/null
killed=0
for delay in 0.02 0.04 0.08 0.12 0.2 0.3; do
    rm -rf part
    $HALFTONE_RUN quantize model -o part --scheme mxfp4 --threads 1 --quiet >/dev/null 2>&1 &
    pid=$!
    sleep $delay
    kill -9 $pid 2>/dev/null && killed=$((killed + 1))
    wait $pid 2>/dev/null
    [ -e part/config.json ] && continue
    expect 0 halftone quantize model -o part --scheme mxfp4 --quiet >/dev/null
    diff -r whole part >/dev/null || fail "resumed after $delay s: other bytes"
    check ! -e part/.halftone
done
check "$killed" -ge 1

# With other options the leftovers are refused, not mixed in; --resume never starts afresh.
rm -rf part
tries=0
while [ ! -e part/.halftone/journal ] && [ $tries -lt 20 ]; do
    rm -rf part
    $HALFTONE_RUN quantize model -o part --scheme mxfp4 --threads 1 --quiet >/dev/null 2>&1 &
    pid=$!
    sleep 0.1
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    tries=$((tries + 1))
done
if [ -e part/.halftone/journal ]; then
    expect 4 halftone quantize model -o part --scheme mxfp8 --quiet
    expect 0 halftone quantize model -o part --scheme mxfp8 --resume never --quiet >/dev/null
    expect 0 halftone quantize model -o other --scheme mxfp8 --quiet >/dev/null
    diff -r other part >/dev/null || fail "resume never: other bytes"
fi
