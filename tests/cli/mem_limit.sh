# A checkpoint several times larger than the memory it is given: --mem-limit bounds the library's buffers, and the whole
# process works under a hard limit on its data. A limit that cannot be kept is refused before anything is written.
make_checkpoint model --layers 12 --hidden 1024 --ffn 3072
size=$(wc -c <model/model.safetensors)
limit=$((24 * 1024 * 1024))
check "$size" -gt $((8 * limit))
expect 0 halftone quantize model -o a --scheme mxfp4 --mem-limit 24MiB --json --quiet >out.json
check "$(json out.json peak_memory_bytes)" -le "$limit"
if [ -z "$EMULATOR" ]; then
    (ulimit -d 98304 && expect 0 halftone quantize model -o b --scheme mxfp4 --mem-limit 24MiB --quiet >/dev/null)
    diff -r a b >/dev/null || fail "other bytes under the limit"
fi
expect 5 halftone quantize model -o c --scheme mxfp4 --mem-limit 4K --quiet
check ! -e c
