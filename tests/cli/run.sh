#!/bin/sh
# run.sh CASE.sh: run one case of the program in a scratch directory of its own.
#
# A case is a few lines of sh that call `halftone` and say what must hold. It may have two companions,
# CASE.stdout.exact and CASE.stderr.exact: what it prints must equal them byte by byte (the tree's own path is written ROOT,
# the scratch directory TMP). A case fails when a check fails or it exits non-zero; exit 77 is a skip.
#
# Environment from CTest: HALFTONE (program), JSON_GET, MAKE_CHECKPOINT, EMULATOR (may be empty), ROOT (source tree).
# For a case: MODEL, TINY, TMP and these functions:
#   halftone ARGS...           the program
#   expect STATUS COMMAND...   run it; its exit status must be STATUS
#   json FILE PATH             a value of a JSON file, "-" reads standard input
#   check WORDS...             a test(1) expression that must hold
#   byte_tokenizer FILE        a tokenizer.json of 256 tokens: bytes
#   poison FILE TENSOR OCTAL [BYTE]  overwrite bytes of a tensor of a safetensors file, from that byte of it on
#   skip REASON
case_file=$1
TMP=$(mktemp -d "${TMPDIR:-/tmp}/halftone-cli-XXXXXX") || exit 1
OUTPUT=$(mktemp -d "${TMPDIR:-/tmp}/halftone-cli-XXXXXX") || exit 1
trap 'chmod -R u+w "$TMP" 2>/dev/null; rm -rf "$TMP" "$OUTPUT"' EXIT
MODEL=$ROOT/models/novel-7m
TINY=$ROOT/tests/data/tiny
HALFTONE_RUN="$EMULATOR $HALFTONE"
export TMP OUTPUT MODEL TINY HALFTONE_RUN
export LC_ALL=C.UTF-8
unset HALFTONE_CPU

halftone() { $HALFTONE_RUN "$@"; }
json() { $EMULATOR "$JSON_GET" "$@"; }
make_checkpoint() { $EMULATOR "$MAKE_CHECKPOINT" "$@"; }
fail() { echo "FAILED: $*" >&2; echo "$*" >>"$OUTPUT/failures"; }
skip() { echo "skipped: $*" >>"$OUTPUT/skip"; exit 77; }
check() { [ "$@" ] || fail "not so: $*"; }
byte_tokenizer() {
    awk 'BEGIN {
        printf "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"post_processor\": null, "
        printf "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
        printf "\"use_regex\": false}, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
        printf "\"trim_offsets\": true, \"use_regex\": false}, \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {"
        other = 256
        for (byte = 0; byte < 256; byte++) {
            shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173)
            printf "%s\"\\u%04x\": %d", byte ? ", " : "", shown ? byte : other++, byte
        }
        print "}}}"
    }' >"$1"
}
poison() {
    length=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    tail -c +9 "$1" | head -c "$length" >"$OUTPUT/header"
    at=$(json "$OUTPUT/header" . | sed "s/.*\"$2\":{[^}]*\"data_offsets\":\[\([0-9]*\),.*/\1/")
    printf "$3" | dd of="$1" bs=1 seek=$((8 + length + at + ${4:-0})) conv=notrunc 2>/dev/null
}
expect() {
    wanted=$1
    shift
    "$@"
    got=$?
    [ "$got" -eq "$wanted" ] || fail "exit status $got instead of $wanted: $*"
}

(cd "$TMP" && . "$case_file") >"$OUTPUT/stdout" 2>"$OUTPUT/stderr"
status=$?
if [ "$status" -eq 77 ]; then
    cat "$OUTPUT/skip"
    exit 77
fi
[ "$status" -eq 0 ] || echo "the case exited $status" >>"$OUTPUT/failures"
base=${case_file%.sh}
for stream in stdout stderr; do
    sed -e "s|$ROOT|ROOT|g" -e "s|$TMP|TMP|g" "$OUTPUT/$stream" >"$OUTPUT/$stream.plain"
    if [ -n "$HALFTONE_UPDATE" ] && [ -f "$base.$stream.exact" ]; then
        cp "$OUTPUT/$stream.plain" "$base.$stream.exact"
    elif [ -f "$base.$stream.exact" ]; then
        diff -u "$base.$stream.exact" "$OUTPUT/$stream.plain" >"$OUTPUT/diff" ||
            { cat "$OUTPUT/diff"; echo "$stream is not $base.$stream.exact" >>"$OUTPUT/failures"; }
    fi
done
if [ -s "$OUTPUT/failures" ]; then
    echo "--- stdout"; tail -40 "$OUTPUT/stdout"
    echo "--- stderr"; tail -40 "$OUTPUT/stderr"
    echo "--- failures"; cat "$OUTPUT/failures"
    exit 1
fi
exit 0
