# The examples of every command's help run as they stand, in the order of the commands.
ln -s "$ROOT/models" "$ROOT/tests" .
halftone --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' >commands
check "$(wc -l <commands)" -ge 12
while read -r command; do
    halftone "$command" --help | sed -n '/^examples:/,$s/^  //p' >lines
    check -s lines
    cat lines >>all
done <commands
while read -r line; do
    case $line in
    halftone\ *) ;;
    *) fail "not a command: $line" ;;
    esac
    eval "$line" >out.txt 2>err.txt </dev/null || fail "$line: $(cat err.txt)"
done <all
check -s small.html
