#!/bin/sh
# No object of the library holds an instruction that its file name does not announce: x86-64 files without an
# instruction set at the end of their names stay free of VEX and EVEX code, those of AVX2 free of AVX-512. A processor
# without them would die before any row of a kernel table is looked at.
#     instructions.sh LIBRARY [OBJDUMP]
dump=${2:-objdump}
command -v "$dump" >/dev/null || { echo "no $dump here"; exit 77; }
"$dump" -d --no-show-raw-insn "$1" 2>/dev/null | awk '
    /file format/ { name = $1; sub(/:$/, "", name); x86 = /x86-64/; objects += x86; next }
    !x86 || name ~ /_avx512[a-z0-9]*\.c\.o$/ { next }
    name ~ /_(avx2|fma)\.c\.o$/ {
        announced += /%ymm/
        if (/%zmm|%[xy]mm(1[6-9]|2[0-9]|3[01])|%k[1-7]/)
            bad[name] = $0
        next
    }
    /%[yz]mm|%k[1-7]|\t *v[a-z0-9]+ +.*%xmm/ { bad[name] = $0 }
    END {
        if (!objects) { print "no x86-64 objects"; exit 77 }
        for (name in bad) { print name ": " bad[name]; failures++ }
        if (!announced) { print "no AVX2 object uses AVX2: nothing was looked at"; failures++ }
        printf "%d passed, %d failed, 0 skipped\n", objects - failures, failures
        exit failures > 0
    }'
