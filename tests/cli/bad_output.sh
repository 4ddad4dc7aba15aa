# Outputs that cannot be written: an existing one, the input itself, a place that is no directory, one that may not be
# written, a full disk, a size limit. One line each, and nothing half written stays.
expect 0 mkdir existing
echo mine >existing/file
expect 1 halftone quantize "$TINY/llama" -o existing --scheme mxfp4 --quiet
check "$(ls existing)" = file
echo >plain
expect 1 halftone quantize "$TINY/llama" -o plain --scheme mxfp4 --quiet
expect 1 halftone quantize "$TINY/llama" -o plain/out --scheme mxfp4 --quiet
check "$(wc -c <plain)" -eq 1
cp -r "$TINY/llama" itself
before=$(cat itself/* | cksum)
expect 1 halftone quantize itself -o itself --scheme mxfp4 --quiet --overwrite
expect 1 halftone quantize itself/model.safetensors -o ./itself/. --scheme mxfp4 --quiet --overwrite
check "$(cat itself/* | cksum)" = "$before"
mkdir locked
if [ "$(id -u)" -ne 0 ]; then
    chmod 555 locked
    expect 1 halftone quantize "$TINY/llama" -o locked/out --scheme mxfp4 --quiet
    check -z "$(ls locked)"
fi
check "$(wc -l <"$OUTPUT/stderr")" -ge 5

# A size limit of ten kilobytes a file, as a disk quota would be.
(ulimit -f 20 && halftone quantize "$TINY/llama" -o limited --scheme mxfp8 --quiet >/dev/null 2>limited.err)
check $? -eq 5
check "$(wc -l <limited.err)" -eq 1
grep -q 'limited/.*File too large' limited.err || fail "$(cat limited.err)"
check ! -e limited
(ulimit -f 1 && halftone logits "$TINY/llama" --ids 1,2,3 -o logits.safetensors >/dev/null 2>limited.err)
check $? -eq 5
check "$(wc -l <limited.err)" -eq 1
check ! -e logits.safetensors
# Results that cannot be printed.
if [ -c /dev/full ]; then
    expect 5 halftone inspect "$TINY/llama" >/dev/full 2>full.err
    check "$(wc -l <full.err)" -eq 1
fi

# A disk of two megabytes and a directory mounted read-only (which binds root, too), in a mount namespace of their own.
make_checkpoint model --layers 4 --hidden 256 --ffn 1024
cat >full.sh <<'END'
mount -t tmpfs -o size=2m none disk || exit 77
$HALFTONE_RUN quantize model -o disk/out --scheme mxfp8 --quiet 2>err
echo "status $?"
ls -A disk/out 2>/dev/null
cat err >&2
mount --bind locked locked && mount -o remount,bind,ro locked || exit 0
$HALFTONE_RUN quantize model -o locked/out --scheme mxfp8 --quiet 2>err
echo "locked $?: $(ls -A locked)"
cat err >&2
END
mkdir disk
unshare -rm sh full.sh >full 2>full.err
if [ $? -ne 77 ] && grep -q '^status' full; then
    check "$(head -n 1 full)" = "status 5"
    check "$(grep -c . full.err)" -eq "$(grep -c -e '^status' -e '^locked' full)"
    check "$(grep -vx -e 'status 5' -e '.halftone' -e 'locked 1: ' full)" = ""
    grep -q 'locked/out: cannot create the directory: Read-only file system' full.err || grep -vq '^locked' full ||
        fail "$(cat full.err)"
else
    echo "no tmpfs here: the full disk was not tried"
fi
