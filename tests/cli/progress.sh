# Progress: JSON lines for programs, plain lines in a log, none when told so; results stay on standard output.
make_checkpoint model --layers 4 --hidden 256 --ffn 1024
expect 0 halftone quantize model -o a --scheme mxfp4 --progress json --json >out.json 2>lines
check "$(json out.json schema)" = halftone.quantize/1
check -s lines
while read -r line; do
    printf '%s\n' "$line" | json - stage unit done seconds rate >/dev/null || fail "not a progress line: $line"
done <lines
check "$(tail -n 1 lines | json - done)" = "$(tail -n 1 lines | json - total)"
expect 0 halftone quantize model -o b --scheme mxfp4 --progress plain >/dev/null 2>lines
grep -q '^quantize: .*100 %' lines || fail "no closing plain line"
expect 0 halftone quantize model -o c --scheme mxfp4 --quiet >/dev/null 2>lines
check ! -s lines
expect 0 halftone quantize model -o d --scheme mxfp4 --progress line >/dev/null 2>lines
tr '\r' '\n' <lines | grep -q '100 %' || fail "no updating line"
