#!/bin/sh
# File names are unique in src/, cli/ and include/, except a kernel's ref/x86/arm/cuda siblings and a module's public header;
# include guards spell the path; every .c names its licence.
failures=0
for file in $(git ls-files 'src/*.h' 'include/*.h' 'cli/*.h'); do
    case $file in
        include/halftone/*) guard=HT_$(basename "$file" .h) ;;
        src/*) guard=HT_${file#src/} ;;
        cli/*) guard=HT_$file ;;
    esac
    guard=$(printf '%s' "${guard%.h}_H" | tr 'a-z/-' 'A-Z__')
    grep -q "^#ifndef $guard\$" "$file" || { echo "$file: include guard is not $guard"; failures=$((failures + 1)); }
done
for file in $(git ls-files 'src/*.c' 'src/*.cu' 'cli/*.c' 'tests/*.c' 'fuzz/*.c' 'bench/*.c' 'examples/*.c'); do
    case $file in tests/*) continue ;; esac
    head -n 60 "$file" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' ||
        { echo "$file: no SPDX line"; failures=$((failures + 1)); }
done
twice=$(git ls-files 'src/*.c' 'cli/*.c' | grep -v '^src/kernels/' | sed 's,.*/,,' | sort | uniq -d)
[ -z "$twice" ] || { echo "file names used twice: $twice"; failures=$((failures + 1)); }
echo "1 passed, $failures failed, 0 skipped"
[ "$failures" -eq 0 ]
