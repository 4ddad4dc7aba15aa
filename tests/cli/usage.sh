# Mistakes on the command line: one line, exit status 2, the nearest right word.
expect 0 halftone --version | sed 's/[0-9.]*$/VERSION/'
expect 2 halftone 2>short
head -n 1 short
expect 0 halftone --help >help
head -n 1 help
expect 0 halftone help >help
expect 2 halftone docter
expect 2 halftone --nonsense doctor
expect 2 halftone --thread doctor
expect 2 halftone doctor --jsn
expect 2 halftone doctor --threads
expect 2 halftone doctor --threads=many
expect 2 halftone doctor --threads -1
expect 2 halftone doctor --json=yes
expect 2 halftone doctor --mem-limit 3Q
expect 2 halftone doctor --progress fast
expect 2 halftone doctor -x
expect 2 halftone doctor surplus
expect 2 halftone doctor -- --json
expect 2 halftone help nonsense
expect 2 halftone doctor --device tpu
halftone doctor --device cuda:99 2>absent && fail "device cuda:99 was found"
check -s absent
expect 2 halftone doctor --threads 5000

# Options may stand anywhere, also in front of the command.
expect 0 halftone --json --threads 1 list schemes >a
expect 0 halftone list --threads 1 schemes --json >b
cmp a b || fail "the place of an option matters"
expect 0 halftone doctor --help >help
head -n 1 help
expect 0 halftone help doctor >help2
cmp help help2 || fail "help COMMAND is not COMMAND --help"

# A full disk behind standard output is a failure.
if [ -w /dev/full ]; then
    expect 5 halftone doctor >/dev/full
else
    echo "halftone: doctor: standard output: No space left on device" >&2
fi
