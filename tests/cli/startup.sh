# The best of twenty starts takes less than 5 ms.
best=1000000000
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    start=$(date +%s%N)
    halftone --version >/dev/null
    took=$(($(date +%s%N) - start))
    [ "$took" -lt "$best" ] && best=$took
done
echo "$best ns with the shell's own share"
check "$best" -lt 8000000
