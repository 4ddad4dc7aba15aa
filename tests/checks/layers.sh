#!/bin/sh
# Layer rule: a file under src/ includes its own module and modules of lower layers, never upward or sideways;
# cli/, bench/ and examples/ include only <halftone/...> and their own headers.
awk '
function layer_of(module) { return module in layer ? layer[module] : -1 }
BEGIN {
    split("base:0 format:1 device:1 tensor:2 kernels:2 ops:3 comm:3 io:3 tokenizer:3 about:3 model:4 optim:4 quant:5 train:5", rows, " ")
    for (i in rows) { split(rows[i], kv, ":"); layer[kv[1]] = kv[2] }
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    n = split(FILENAME, from, "/")
    parts = split(quoted[2], to, "/")
    checked++
    if (from[1] == "src") {
        if (parts < 2 || layer_of(to[1]) < 0) bad("names no module")
        else if (to[1] != from[2] && layer_of(to[1]) >= layer_of(from[2])) bad("goes upward or sideways")
    } else if (parts > 1 && layer_of(to[1]) >= 0) bad("looks inside the library")
}
function bad(why) { printf "%s:%d: #include \"%s\" %s\n", FILENAME, FNR, quoted[2], why; failures++ }
END {
    printf "%d passed, %d failed, 0 skipped\n", checked - failures, failures
    exit failures || !checked
}' $(git ls-files 'src/*.[ch]' 'src/*.cu' 'src/*.cuh' 'cli/*.[ch]' 'bench/*.[ch]' 'examples/*.[ch]')
