# The same bytes for any number of threads and any chunk size.
same() { # same DIRECTORY DIRECTORY
    diff -r "$1" "$2" >/dev/null || fail "$1 and $2 differ"
}
for scheme in mxfp4 nvfp4 int4-g32 fp8-block; do
    expect 0 halftone quantize "$MODEL" -o $scheme-1 --scheme $scheme --threads 1 --quiet >/dev/null
    expect 0 halftone quantize "$MODEL" -o $scheme-4 --scheme $scheme --threads 4 --quiet >/dev/null
    expect 0 halftone quantize "$MODEL" -o $scheme-c --scheme $scheme --threads 3 --chunk-size 64KiB --quiet >/dev/null
    same $scheme-1 $scheme-4
    same $scheme-1 $scheme-c
done
