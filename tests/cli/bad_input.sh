# Inputs that are not what they say: one line, exit status 3 (or the status named here), and no output directory.
refused() { # refused STATUS DIRECTORY
    status=$1
    for command in "inspect $2" "plan $2 --scheme mxfp4" "quantize $2 -o out --scheme mxfp4 --quiet"; do
        : >err
        expect "$status" halftone $command >/dev/null 2>err
        check "$(wc -l <err)" -eq 1
        check ! -e out
    done
}
model() { # model NAME: a copy of a tiny checkpoint to be damaged
    rm -rf "$1"
    cp -r "$TINY/llama" "$1"
    chmod -R u+w "$1"
}
header() { # header FILE JSON [DATA BYTES]: a safetensors file
    length=$(printf '%s' "$2" | wc -c)
    printf "$(printf '\\%03o\\%03o\\0\\0\\0\\0\\0\\0' $((length % 256)) $((length / 256)))" >"$1"
    printf '%s' "$2" >>"$1"
    head -c "${3:-0}" /dev/zero >>"$1"
}
model truncated && head -c 100000 "$TINY/llama/model.safetensors" >truncated/model.safetensors
refused 3 truncated
model short && head -c 7 "$TINY/llama/model.safetensors" >short/model.safetensors
refused 3 short
model nothing && : >nothing/model.safetensors
refused 3 nothing
model huge && printf '\377\377\377\377\377\377\377\177' >huge/model.safetensors
refused 3 huge
model overlap && header overlap/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}' 24
refused 3 overlap
model lying && header lying/model.safetensors '{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}' 16
refused 3 lying
model dtype && header dtype/model.safetensors '{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}' 16
refused 3 dtype
model overflow && header overflow/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}' 16
refused 3 overflow
model twice && header twice/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}' 32
refused 3 twice
model text && header text/model.safetensors "$(printf '{"a\377":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')" 16
refused 3 text
model shard && rm shard/model.safetensors && printf '%s' \
    '{"weight_map":{"a":"model-00001-of-00002.safetensors"}}' >shard/model.safetensors.index.json
refused 3 shard
model config && printf '{"architectures": [' >config/config.json
refused 3 config
refused 3 missing

# A name that tries to forge a second line of output stays in one.
model forged && header forged/model.safetensors '{"a\nhalftone: all is well":{"dtype":"F32","shape":[9],"data_offsets":[0,16]}}' 16
refused 3 forged

# Unknown keys of a config and tensors of no size are no obstacle.
model odd && sed 's/^{/{"key_of_tomorrow": {"x": [1, null]},/' "$TINY/llama/config.json" >odd/config.json
expect 0 halftone quantize odd -o odd-out --scheme mxfp4 --quiet >/dev/null
cmp odd-out/model.safetensors odd-out/model.safetensors
model empty && header empty/model.safetensors '{"a":{"dtype":"F32","shape":[0,8],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' 8
expect 0 halftone inspect empty >/dev/null
