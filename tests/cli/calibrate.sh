# Calibrated runs on what they cannot use: one line and an exit status, nothing left behind; or a fallback in the report.
text=$ROOT/tests/data/text/sample-a.txt
model() { # model NAME FAMILY: a tiny checkpoint that tokenizes
    cp -r "$TINY/$2" "$1"
    chmod -R u+w "$1"
    byte_tokenizer "$1/tokenizer.json"
}
refused() { # refused STATUS WORDS OPTIONS...: one line with these words, and nothing new in the directory
    status=$1 words=$2
    shift 2
    : >err
    ls -A >before
    expect "$status" halftone quantize "$@" -o out --quiet --report out.html >/dev/null 2>err
    check "$(wc -l <err)" -eq 1
    grep -q -- "$words" err || fail "no \"$words\" in: $(cat err)"
    ls -A >after
    diff before after || fail "left behind by: $*"
}
run() { # run NAME OPTIONS...: quantize to NAME with a report
    out=$1
    shift
    expect 0 halftone quantize --samples 2 --length 32 "$@" -o "$out" --quiet --report "$out.html" >/dev/null
}
count() { # count FILE LINE: lines of a report that hold these words
    grep -c -- "$2" "$1"
}
every_method="gptq imatrix wanda gptq+autoround awq smooth+gptq best"
: >err
: >after
model llama llama
model moe qwen3-moe

# No text, none that is enough, none that can be read.
head -c 31 "$text" >short.txt
: >empty.txt
for method in $every_method; do
    refused 2 'give one with --data FILE' llama --scheme int4-g32 --method $method
    refused 2 'short.txt: the text has 31 tokens, a sample needs 32' llama --scheme int4-g32 --method $method \
        --data short.txt --length 32
done
refused 2 'empty.txt: the text has 0 tokens' llama --scheme int4-g32 --method gptq --data empty.txt --length 32
refused 3 'missing.txt: cannot open' llama --scheme int4-g32 --method gptq --data missing.txt
refused 3 'llama: not a regular file' llama --scheme int4-g32 --method gptq --data llama
refused 3 'tokenizer.json: cannot open' "$TINY/llama" --scheme int4-g32 --method gptq --data "$text"

# Pairs that do not go together.
refused 1 'codes of bf16 cannot be chosen one by one' llama --scheme bf16 --method gptq --profile plain --data "$text"
refused 1 'method hqq chooses scales of integer groups' llama --scheme mxfp4 --method hqq
refused 2 'q4_k cannot hold pruned weights' llama --scheme q4_k --method wanda --profile plain --data "$text"
refused 2 'do not go together: each rounds' llama --scheme int4-g32 --method hqq+gptq --data "$text"
refused 2 'do not go together: each scales inputs' llama --scheme int4-g32 --method smooth+awq --data "$text"
refused 2 'write smooth+gptq' llama --scheme int4-g32 --method gptq+smooth --data "$text"
refused 2 'alpha means nothing for method gptq' llama --scheme int4-g32 --method gptq --set alpha=1 --data "$text"

# A weight that is no number: the model of a transform goes with the run.
model nan llama
poison nan/model.safetensors model.layers.1.mlp.down_proj.weight '\377\377' 6
for method in gptq imatrix wanda smooth+gptq rotate+gptq hadamard+rtn; do
    refused 1 'tensor model.layers.1.mlp.down_proj.weight holds NaN at' nan --scheme int4-g32 --method $method \
        --data "$text" --samples 2 --length 32
done
refused 1 'inputs of tensor model.layers.1.mlp.down_proj.weight: sinq' nan --scheme int4-g32 --method rotate+sinq

# Inputs that are no numbers: from a norm, all of them; from one token, those after it. 14 matrices, 64 tokens.
model norm llama
poison norm/model.safetensors model.layers.0.input_layernorm.weight '\377\177'
for method in gptq imatrix wanda gptq+autoround best; do
    case $method in *auto* | best) set=iterations=3 ;; *) set= ;; esac
    run norm-$method norm --scheme int4-g32 --method $method --data "$text" ${set:+--set $set}
    check "$(count norm-$method.json '"fallback": "rtn: no input of the calibration text is finite"')" -eq 28
    expect 0 halftone verify norm-$method --against norm >/dev/null
done
for method in awq smooth; do # not scaled: rounded as it was
    run norm-$method norm --scheme int4-g32 --method $method --data "$text"
    check "$(count norm-$method.json "\"fallback\": \"not scaled by $method: no input of the calibration text is finite")" -eq 28
done
run plain norm --scheme int4-g32
cmp plain/model.safetensors norm-awq/model.safetensors || fail "scaled by nothing"
cmp plain/model.safetensors norm-gptq/model.safetensors || fail "not rounded to nearest"
model token llama
poison token/model.safetensors model.embed_tokens.weight '\377\177' $((128 * 101)) # of an e
run token-gptq token --scheme int4-g32 --method gptq --data "$text"
check "$(json token-gptq.json tensors.7.name)" = model.layers.0.self_attn.k_proj.weight
check "$(json token-gptq.json tensors.7.matrices.0.tokens)" = "$((64 - $(head -c 64 "$text" | tr -cd e | wc -c)))"
check "$(json token-gptq.json tensors.7.matrices.0.fallback)" = ""

# One sample over and over: its Hessian has 32 dimensions of 64 and more. Nothing is refused, nothing falls back.
for i in 1 2 3 4 5 6 7 8; do
    head -c 32 "$text"
done >again.txt
run again llama --scheme int4-g32 --method gptq --data again.txt --samples 8
check "$(count again.json '"tokens": 256')" -eq 15 # 14 matrices, and the text
check "$(count again.json '"fallback": ""')" -ge 28
expect 0 halftone verify again --against llama >/dev/null

# One letter alone: every token goes to the same two experts of four; the others are in their format all the same.
head -c 64 /dev/zero | tr '\0' a >letter.txt
for method in gptq smooth; do
    run letter-$method moe --scheme int4-g16 --method $method --data letter.txt
    check "$(json letter-$method.json coverage.0.tokens | tr , '\n' | grep -c '\<0\>')" -eq 2
    expect 0 halftone verify letter-$method >/dev/null
done
check "$(count letter-gptq.json '"fallback": "rtn: 0 of 64 calibration tokens come here"')" -eq 24
check "$(count letter-smooth.json '"fallback": "not scaled by smooth: no calibration token comes here"')" -eq 24

# A limit that a block cannot keep is found before anything is written.
make_checkpoint deep --layers 4 --hidden 256 --ffn 512
byte_tokenizer deep/tokenizer.json
few="--samples 2 --length 64 --set scales=at_group"
for method in gptq smooth+gptq; do
    refused 5 'calibration of block 0 needs [0-9]* bytes with [0-9]* in use, memory limit is 6291456: raise the limit' \
        deep --scheme int4-g32 --method $method --data "$text" $few --mem-limit 6MiB
done
options="--scheme int4-g32 --method gptq --data $text $few --progress none"

# Stopped in its middle: 75; then the same bytes and, but for times, the same report.
expect 0 halftone quantize deep -o whole $options --report whole.html >/dev/null 2>&1
for try in 1 2 3 4 5; do
    rm -rf part
    $HALFTONE_RUN quantize deep -o part $options --threads 1 >/dev/null 2>err &
    pid=$!
    until grep -q matrix part/.halftone/files/.errors 2>/dev/null || [ -e part/config.json ]; do
        sleep 0.02
    done
    kill -INT $pid 2>/dev/null
    wait $pid
    status=$?
    [ -e part/config.json ] || break
done
check "$status" -eq 75
check "$(wc -l <err)" -eq 2 # the second says how to go on
grep -q 'stopped on request' err || fail "no message"
: >err
expect 4 halftone quantize deep -o part $options --samples 3 2>err
grep -q 'samples differs' err || fail "another run goes on: $(cat err)"
expect 0 halftone quantize deep -o part $options --resume required --report part.html >/dev/null 2>&1
diff -r whole part || fail "other bytes after a stop"
for name in whole part; do # without the stages, which are times
    sed -e '/"stages"/,$d' -e '/second/d' -e '/peak/d' -e '/"command"/d' -e '/"output"/d' $name.json >$name.plain
done
diff whole.plain part.plain || fail "the report of a resumed run is another one"
check "$(count part.plain '"matrix"')" -eq 28
