# tokenize: ids, decoding, streams that are not UTF-8.
expect 0 halftone tokenize "$MODEL" -p "It was a dark and stormy night; the rain fell."
expect 0 halftone tokenize "$MODEL" -p "It was" --tokens
ids=$(halftone tokenize "$MODEL" -p "Zażółć gęślą jaźń 🙂")
check "$(halftone tokenize "$MODEL" --ids "$ids")" = "Zażółć gęślą jaźń 🙂"
printf 'It was' | expect 0 halftone tokenize "$MODEL" --text -
expect 0 halftone tokenize "$MODEL" -p "It was" --json >out.json
check "$(json out.json schema count ids.#)" = "halftone.tokenize/1
2
2"
expect 0 halftone tokenize "$MODEL" --ids 1,2,3 --json >out.json
check -n "$(json out.json text)"
# Bytes that are not UTF-8 become U+FFFD, the same as that character itself.
printf 'ab\377cd' >bad.txt
printf 'ab\357\277\275cd' >good.txt
expect 0 halftone tokenize "$MODEL" --text bad.txt >a
expect 0 halftone tokenize "$MODEL" --text good.txt >b
cmp a b || fail "invalid UTF-8 is not read as U+FFFD"
: >empty.txt
check "$(halftone tokenize "$MODEL" --text empty.txt --json | json - count)" = 0
expect 2 halftone tokenize "$MODEL"
expect 2 halftone tokenize "$MODEL" -p a --text b
expect 2 halftone tokenize "$MODEL" --ids 1,x
expect 2 halftone tokenize "$MODEL" --ids 4294967295
expect 2 halftone tokenize "$MODEL" --ids 99999
expect 3 halftone tokenize "$MODEL" --text missing.txt
expect 3 halftone tokenize "$TINY/llama" -p a
