#!/bin/sh
# Every external symbol that the library defines starts with ht_ (LLVMFuzzer and sanitizer symbols excepted).
[ -f "$1" ] || { echo "no library at $1"; exit 1; }
stray=$(nm --extern-only --defined-only "$1" 2>/dev/null | awk 'NF == 3 {print $3}' |
    grep -Ev '^(ht_|__asan|__ubsan|__tsan|__odr_asan|_?_?gcov|fatbinData|__cuda)' | sort -u)
count=$(nm --extern-only --defined-only "$1" 2>/dev/null | awk 'NF == 3' | wc -l)
if [ -n "$stray" ]; then
    echo "symbols without the ht_ prefix:"
    echo "$stray"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
[ "$count" -gt 10 ] || { echo "only $count symbols found"; exit 1; }
echo "1 passed, 0 failed, 0 skipped"
