#!/bin/sh
# Every command of the README and of docs/*.md runs. A fenced block marked ```sh is run with `halftone` on the PATH, in a scratch
# folder that holds links to models, tests, examples and docs; the blocks of one page run one after another in the same folder.
# A line "# exit N" before a command says that it must end with that status. Other blocks (```console, ```c, indented) do not run.
#     docs.sh PROGRAM [PAGE...]
program=$1
shift
root=$PWD
[ $# -gt 0 ] || set -- README.md docs/*.md
directory=$(cd "$(dirname "$program")" && pwd)
passed=0 failed=0
for page; do
    scratch=$(mktemp -d)
    ln -s "$root/models" "$root/tests" "$root/examples" "$root/docs" "$scratch"
    awk '/^```sh$/ {inside = 1; next} /^```/ {inside = 0} inside' "$page" >"$scratch/.commands"
    # Join continued lines, so that one line is one command.
    awk '{if (sub(/\\$/, "")) printf "%s", $0; else print}' "$scratch/.commands" >"$scratch/.lines"
    want=0
    while IFS= read -r command <&3; do
        case $command in
            '' ) continue ;;
            '# exit '*) want=${command#\# exit }; continue ;;
            '#'*) continue ;;
        esac
        (cd "$scratch" && PATH=$directory:$PATH timeout 120 sh -c "$command" >.out 2>&1)
        got=$?
        if [ "$got" -eq "$want" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "$page: \`$command\` ended with $got, want $want:"
            tail -n 5 "$scratch/.out"
        fi
        want=0
    done 3<"$scratch/.lines"
    rm -rf "$scratch"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
