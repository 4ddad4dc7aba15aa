#!/bin/sh
# Each public header compiles alone as C99 and as C++, without warnings.
cc=${1:-cc}
failures=0 passed=0
for header in include/halftone/*.h; do
    for language in "c -std=c99" "c++ -std=c++11"; do
        set -- $language
        compiler=$cc
        [ "$1" = c++ ] && { command -v c++ >/dev/null || continue; compiler=c++; }
        if printf '#include <halftone/%s>\n' "$(basename "$header")" |
            "$compiler" -x $language -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -; then
            passed=$((passed + 1))
        else
            echo "$header does not compile alone as $1"
            failures=$((failures + 1))
        fi
    done
done
echo "$passed passed, $failures failed, 0 skipped"
[ "$failures" -eq 0 ]
