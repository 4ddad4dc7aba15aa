#!/bin/sh
# consume.sh BUILD SOURCE CC: install into a scratch prefix, move it, and build the examples against it as a stranger would:
# with find_package (shared and static) and with pkg-config (shared and static). Then run them, and the program.
set -eu
build=$1 source=$2 cc=$3
scratch=$(mktemp -d "${TMPDIR:-/tmp}/halftone-install-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

cmake --install "$build" --prefix "$scratch/first" >/dev/null
mv "$scratch/first" "$scratch/prefix" # an installed tree may be moved
prefix=$scratch/prefix
library=$(dirname "$(find "$prefix" -name libhalftone.a)")
"$prefix/bin/halftone" --version
[ -s "$prefix/share/man/man1/halftone.1" ] || fail "no man page"
[ -f "$prefix/include/halftone/halftone.h" ] || fail "no headers"

examples=$(cd "$source/examples" && ls [0-9]*.c | sed 's/\.c$//')
mkdir "$scratch/project"
cat >"$scratch/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(stranger LANGUAGES C)
find_package(halftone REQUIRED)
foreach(example $(echo $examples))
  foreach(kind static shared halftone)
    add_executable(\${example}-\${kind} $source/examples/\${example}.c)
    target_link_libraries(\${example}-\${kind} PRIVATE halftone::\${kind} m)
  endforeach()
endforeach()
END
cmake -S "$scratch/project" -B "$scratch/project/build" -G Ninja -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" >"$scratch/log" 2>&1 &&
    cmake --build "$scratch/project/build" >>"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "find_package"; }

export PKG_CONFIG_PATH="$library/pkgconfig"
pkg-config --exists --print-errors halftone
for example in $examples; do
    "$cc" "$source/examples/$example.c" -o "$scratch/$example-pc" $(pkg-config --cflags --libs halftone) -lm ||
        fail "$example with pkg-config"
done
first=$(echo "$examples" | head -n 1)
"$cc" "$source/examples/$first.c" -o "$scratch/$first-pcs" -Wl,-Bstatic -L"$library" -lhalftone -Wl,-Bdynamic \
    $(pkg-config --cflags --static --libs halftone | sed 's/-lhalftone//') -lm || fail "$first static with pkg-config"

run() { # run PROGRAM: every example works in a scratch directory of its own, with the bundled model
    mkdir -p "$scratch/work"
    (cd "$scratch/work" && LD_LIBRARY_PATH=$library "$1" "$source/models/novel-7m" out >"$scratch/out" 2>&1) ||
        { cat "$scratch/out"; fail "$1"; }
    [ -s "$scratch/out" ] || fail "$1 printed nothing"
    rm -rf "$scratch/work"
}
count=0
for example in $examples; do
    for program in "$scratch/project/build/$example-static" "$scratch/project/build/$example-shared" \
        "$scratch/project/build/$example-halftone" "$scratch/$example-pc"; do
        run "$program"
        count=$((count + 1))
    done
done
run "$scratch/$first-pcs"
echo "$count passed, 0 failed, 0 skipped"
