# Inputs that are not what they say: one line that says what is wrong and where, exit status 3 (or the status named here),
# and no output directory.
refused() { # refused STATUS DIRECTORY WORDS: the line holds these words (a basic regular expression)
    status=$1
    for command in "inspect $2" "plan $2 --scheme mxfp4" "quantize $2 -o out --scheme mxfp4 --quiet"; do
        : >err
        expect "$status" halftone $command >/dev/null 2>err
        one_line "$2" "$3"
        check ! -e out
    done
}
one_line() { # one_line CASE WORDS: err is one line that holds these words
    check "$(wc -l <err)" -eq 1
    grep -q -- "$2" err || fail "$1: no \"$2\" in: $(cat err)"
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
refused 3 truncated 'truncated/model.safetensors: tensor model.layers.0.mlp.gate_proj.weight ends at data byte 106624, the file holds 97840'
model short && head -c 7 "$TINY/llama/model.safetensors" >short/model.safetensors
refused 3 short 'short/model.safetensors: 7 bytes'
model nothing && : >nothing/model.safetensors
refused 3 nothing 'nothing/model.safetensors: 0 bytes'
model huge && printf '\377\377\377\377\377\377\377\177' >huge/model.safetensors
refused 3 huge 'huge/model.safetensors: header of 9223372036854775807 bytes, limit 100000000'
model longer && printf '\062\0\0\0\0\0\0\0{}' >longer/model.safetensors
refused 3 longer 'longer/model.safetensors: header of 50 bytes, the file holds 2'
model overlap && header overlap/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}' 24
refused 3 overlap 'overlap/model.safetensors: tensor b begins at data byte 8, inside a that ends at 16'
model hole && header hole/model.safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}' 32
refused 3 hole 'hole/model.safetensors: hole of 16 bytes .*tensor a'
model lying && header lying/model.safetensors '{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}' 16
refused 3 lying 'lying/model.safetensors: tensor a: data_offsets span 16 bytes, dtype and shape need 20'
model negative && header negative/model.safetensors '{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}' 16
refused 3 negative 'negative/model.safetensors: tensor a: dimension 0'
model dtype && header dtype/model.safetensors '{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}' 16
refused 3 dtype 'dtype/model.safetensors: tensor a: unknown dtype "F33"'
model overflow && header overflow/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}' 16
refused 3 overflow 'overflow/model.safetensors: tensor a'
model twice && header twice/model.safetensors \
    '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}' 32
refused 3 twice 'model.safetensors: tensor a is stored twice'
model text && header text/model.safetensors "$(printf '{"a\377":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')" 16
refused 3 text 'text/model.safetensors: .*invalid UTF-8'
model shard && rm shard/model.safetensors && printf '%s' \
    '{"weight_map":{"a":"model-00001-of-00002.safetensors"}}' >shard/model.safetensors.index.json
refused 3 shard 'shard/model-00001-of-00002.safetensors: cannot open'
model promise && mv promise/model.safetensors promise/one.safetensors && printf '%s' \
    '{"weight_map":{"a":"one.safetensors"}}' >promise/model.safetensors.index.json
refused 3 promise 'promise/model.safetensors.index.json: tensor a is not in one.safetensors'
model path && rm path/model.safetensors && printf '%s' \
    '{"weight_map":{"a":"../promise/one.safetensors"}}' >path/model.safetensors.index.json
refused 3 path 'path/model.safetensors.index.json: tensor a: "../promise/one.safetensors" is not a file name'
model config && printf '{"architectures": [' >config/config.json
refused 3 config 'config/config.json: config is not valid JSON'
model utf8 && printf '{"architectures": ["\377"]}' >utf8/config.json
refused 3 utf8 'utf8/config.json: .*byte 0xff'
refused 3 missing 'missing: cannot open'

# A name that tries to forge a second line of output stays in one.
model forged && header forged/model.safetensors '{"a\nhalftone: all is well":{"dtype":"F32","shape":[9],"data_offsets":[0,16]}}' 16
refused 3 forged 'forged/model.safetensors: tensor a?halftone: all is well: data_offsets'

# NaN and Inf among the weights: the run fails (1), names file, tensor, value and index, and takes back what it wrote.
quantize() { halftone quantize "$1" -o out --scheme mxfp4 --quiet ${2:-} >stdout 2>err; }
model nan
name=model.layers.0.mlp.up_proj.weight
for value in NaN Inf -Inf; do
    case $value in # f32, little-endian
    NaN) bytes='\001\000\200\177' ;;
    Inf) bytes='\000\000\200\177' ;;
    *) bytes='\000\000\200\377' ;;
    esac
    header nan/model.safetensors '{"'$name'":{"dtype":"F32","shape":[4,32],"data_offsets":[0,512]}}' $((4 * (32 * 2 + 5)))
    printf "$bytes" >>nan/model.safetensors
    head -c $((512 - 4 * (32 * 2 + 5) - 4)) /dev/zero >>nan/model.safetensors
    expect 0 halftone plan nan --scheme mxfp4 >/dev/null
    expect 1 quantize nan --strict
    one_line nan "nan: tensor $name holds $value at \[2, 5\]"
    check ! -e out
done
printf 'version: 1\npreset: mxfp4\noptions: {nan: keep}\n' >keep.yaml
expect 0 halftone quantize nan -o nan-out --recipe keep.yaml --json --quiet >nan.json
check "$(json nan.json tensors.0.reason)" = "1 values are NaN or Inf (nan: keep)"

# Weights of another kind, and matrices of no size: kept and named, refused when insisted on.
model integers && header integers/model.safetensors \
    '{"model.layers.0.mlp.up_proj.weight":{"dtype":"I64","shape":[4,32],"data_offsets":[0,1024]},"model.layers.0.mlp.down_proj.weight":{"dtype":"F32","shape":[4,32],"data_offsets":[1024,1536]}}' 1536
expect 4 quantize integers --strict
one_line integers 'model.layers.0.mlp.up_proj.weight.*not bf16, f16 or f32'
check ! -e out
expect 0 quantize integers
grep -q '^kept model.layers.0.mlp.up_proj.weight as i64: not bf16, f16 or f32' stdout || fail "integers are not named"
rm -rf out
expect 3 halftone logits integers --ids 1 -o logits.safetensors 2>err
one_line integers 'integers: tensor'
model zero && header zero/model.safetensors \
    '{"model.layers.0.mlp.up_proj.weight":{"dtype":"F32","shape":[0,32],"data_offsets":[0,0]},"model.layers.0.mlp.down_proj.weight":{"dtype":"F32","shape":[4,32],"data_offsets":[0,512]}}' 512
expect 4 quantize zero --strict
one_line zero 'model.layers.0.mlp.up_proj.weight.*empty'
expect 0 quantize zero
grep -q '^kept model.layers.0.mlp.up_proj.weight as f32: empty' stdout || fail "an empty matrix is not named"
rm -rf out
model empty && header empty/model.safetensors '{"a":{"dtype":"F32","shape":[0,8],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' 8
expect 0 halftone inspect empty >/dev/null

# Unknown keys of a config are no obstacle; bytes that are not UTF-8 in a recipe or a tokenizer are.
model odd && sed 's/^{/{"key_of_tomorrow": {"x": [1, null]},/' "$TINY/llama/config.json" >odd/config.json
expect 0 halftone quantize odd -o odd-out --scheme mxfp4 --quiet >/dev/null
expect 0 halftone quantize "$TINY/llama" -o even-out --scheme mxfp4 --quiet >/dev/null
cmp odd-out/model.safetensors even-out/model.safetensors || fail "an unknown key changed the weights"
check "$(json odd-out/config.json key_of_tomorrow.x.0)" = 1
printf 'version: 1\npreset: mxfp4\n# \377\n' >bytes.yaml
expect 3 halftone quantize "$TINY/llama" -o out --recipe bytes.yaml 2>err
one_line bytes.yaml 'bytes.yaml:.*UTF-8'
printf 'version: 1\npreset: mxfp4\noptoins: {}\n' >typo.yaml
expect 3 halftone quantize "$TINY/llama" -o out --recipe typo.yaml 2>err
one_line typo.yaml 'typo.yaml:3:1: key "optoins" is unknown; the nearest is options'
mkdir words
printf '{"model": {"type": "BPE", "vocab": {"\377": 0}, "merges": []}}' >words/tokenizer.json
expect 3 halftone tokenize words -p hello 2>err
one_line words 'words/tokenizer.json: '
check ! -e out
