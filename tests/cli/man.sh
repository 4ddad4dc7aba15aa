# The man page has every command and every option that --help shows.
expect 0 halftone help --man >page
sed 's/\\-/-/g; s/\\fB//g; s/\\fR//g; s/\\fI//g' page >plain
commands=$(halftone --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
check "$(printf '%s\n' "$commands" | wc -l)" -ge 12
count=0
for command in $commands; do
    grep -q "^\.SS halftone $command " page || fail "no section on $command"
    expect 0 halftone "$command" --help >help
    for option in $(sed -n 's/^ *\(-[a-z], \)\{0,1\}--\([a-z-]*\).*/\2/p' help); do
        grep -q -e "--$option\b" plain || fail "$command --$option is not in the man page"
        count=$((count + 1))
    done
done
check "$count" -gt 80
if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww page >/dev/null 2>warnings
    check ! -s warnings
fi
