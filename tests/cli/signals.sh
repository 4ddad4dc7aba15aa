# First SIGINT or SIGTERM: stop safely, exit 75, resumable. Commands that are not resumable die of the signal. Second: at once.
make_checkpoint model --layers 24 --hidden 512 --ffn 2048
expect 0 halftone quantize model -o whole --scheme mxfp4 --quiet >/dev/null
stop() { # stop SIGNAL DELAY WORDS...: run the program, send the signal once it works; sets $status
    signal=$1 delay=$2
    shift 2
    $HALFTONE_RUN "$@" >/dev/null 2>err &
    pid=$!
    sleep "$delay"
    kill -"$signal" $pid 2>/dev/null
    wait $pid
    status=$?
}
end() { # end SIGNAL WORDS...: the same until it is gone, as a signal that comes before the program's own start is lost
    signal=$1
    shift
    $HALFTONE_RUN "$@" >/dev/null 2>err &
    pid=$!
    signal_until_gone "$signal" $pid
    wait $pid
    status=$?
}
signal_until_gone() {
    for try in $(seq 300); do
        sleep 0.2
        kill -"$1" "$2" 2>/dev/null || break
    done
}
for signal in INT TERM; do
    for delay in 0.2 0.15 0.1 0.07 0.05; do
        rm -rf part
        stop $signal $delay quantize model -o part --scheme mxfp4 --threads 1 --progress none
        [ -e part/config.json ] || break
        check "$status" -eq 0 # done before the signal came: try a shorter wait
    done
    check "$status" -eq 75
    grep -q 'quantize: stopped on request' err || fail "no message"
    expect 0 halftone quantize model -o part --scheme mxfp4 --resume required --quiet >/dev/null
    diff -r whole part >/dev/null || fail "other bytes after SIG$signal"
done
text=$ROOT/tests/data/text/sample-a.txt
end INT eval "$MODEL" --text "$text" --threads 1
check "$status" -eq 130
end TERM eval "$MODEL" --text "$text" --threads 1
check "$status" -eq 143
end INT search "$MODEL" --target-bpw 4.5 --data "$text" --threads 1 -o recipe.yaml
check "$status" -eq 130
check ! -e recipe.yaml
# A program that does not reach a safe point dies of the second signal: here it has none, reading a pipe that stays open.
mkfifo pipe
for pair in INT:130 TERM:143; do
    sleep 90 >pipe &
    holder=$!
    $HALFTONE_RUN tokenize "$MODEL" --text pipe >/dev/null 2>&1 &
    pid=$!
    signal_until_gone "${pair%:*}" $pid
    wait $pid
    check $? -eq "${pair#*:}"
    kill $holder
done
