# Outputs that cannot be written: an existing one, a place that is no directory, a full disk. Nothing half written stays.
expect 0 mkdir existing
echo mine >existing/file
expect 1 halftone quantize "$TINY/llama" -o existing --scheme mxfp4 --quiet
check "$(ls existing)" = file
echo >plain
expect 1 halftone quantize "$TINY/llama" -o plain --scheme mxfp4 --quiet
expect 1 halftone quantize "$TINY/llama" -o plain/out --scheme mxfp4 --quiet
check "$(wc -c <plain)" -eq 1
mkdir locked
if [ "$(id -u)" -ne 0 ]; then
    chmod 555 locked
    expect 1 halftone quantize "$TINY/llama" -o locked/out --scheme mxfp4 --quiet
    check -z "$(ls locked)"
fi
check "$(wc -l <"$OUTPUT/stderr")" -ge 3

# A disk of two megabytes, in a mount namespace of its own.
make_checkpoint model --layers 4 --hidden 256 --ffn 1024
cat >full.sh <<'END'
mount -t tmpfs -o size=2m none disk || exit 77
$HALFTONE_RUN quantize model -o disk/out --scheme mxfp8 --quiet 2>err
echo "status $?"
ls -A disk/out 2>/dev/null
cat err >&2
END
mkdir disk
unshare -rm sh full.sh >full 2>full.err
if [ $? -ne 77 ] && grep -q '^status' full; then
    check "$(head -n 1 full)" = "status 5"
    check "$(wc -l <full.err)" -eq 1
    check "$(grep -vx -e 'status 5' -e '.halftone' full)" = ""
else
    echo "no tmpfs here: the full disk was not tried"
fi
