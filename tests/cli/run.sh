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
