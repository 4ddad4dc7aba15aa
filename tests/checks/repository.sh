#!/bin/sh
# The repository stays small and stands alone: under 40 MB in all, tests/data under 13 MB, no text of others, no path of one
# machine, few preprocessor conditionals outside base/.
failures=0
fail() { echo "$1"; failures=$((failures + 1)); }
total=$(git ls-files -z | xargs -0 stat -c %s 2>/dev/null | awk '{s += $1} END {print int(s / 1000000)}')
[ "$total" -lt 40 ] || fail "tracked files take $total MB, limit 40"
git ls-files | grep -E '(^|/)(novel-(test|calib)|wikitext2-.*)\.txt$' && fail "a text that must stay outside is tracked"
git grep -nE '(^|[^a-z])/(work|farm|root|home)/' -- ':!*.json' ':!tests/checks/repository.sh' && fail "a path of one machine"
conditionals=$(git ls-files 'src/*.c' 'src/*.h' | grep -v '^src/base/' | xargs grep -hE '^[ \t]*#[ \t]*if' |
    grep -vcE 'ifndef HT_|__cplusplus')
[ "$conditionals" -le 5 ] || fail "$conditionals preprocessor conditionals in src/ outside base/, limit 5"
echo "1 passed, $failures failed, 0 skipped"
[ "$failures" -eq 0 ]
