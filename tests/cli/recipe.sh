# Recipes: rules in order, and one line for every mistake in one.
plan() { halftone plan "$MODEL" --recipe "$1" "${2:---json}"; }
cat >good.yaml <<'END'
version: 1
rules:
  - match: "**.down_proj.weight"
    keep: true
  - match: ["**.q_proj.weight", "**.k_proj.weight", "**.v_proj.weight"]
    scheme: mxfp8
  - match: linear
    scheme: int4-g32
END
expect 0 plan good.yaml >out.json
json out.json tensors | tr '{' '\n' | grep -q 'layers.0.mlp.down_proj.weight","asked":"keep"' || fail "keep"
json out.json tensors | tr '{' '\n' | grep -q 'layers.0.self_attn.k_proj.weight","asked":"mxfp8","got":"mxfp8"' || fail "mxfp8"
json out.json tensors | tr '{' '\n' | grep -q 'layers.0.self_attn.o_proj.weight","asked":"int4-g32","got":"int4-g32"' || fail "int4"
printf 'version: 1\nrules:\n  - match: "**.nothing.weight"\n    scheme: mxfp4\n' >nothing.yaml
expect 2 plan nothing.yaml
printf 'version: 1\nrules:\n  - match: linear\n    sheme: mxfp4\n' >key.yaml
expect 3 plan key.yaml
printf 'version: 1\nrules:\n  - match: linear\n    scheme: mxfp5\n' >scheme.yaml
halftone plan "$MODEL" --recipe scheme.yaml
check $? -ne 0
printf 'version: 1\nrules:\n  - match: "re:(["\n    scheme: mxfp4\n' >pattern.yaml
halftone plan "$MODEL" --recipe pattern.yaml
check $? -ne 0
printf 'version: 1\nrules: [\n' >broken.yaml
expect 3 plan broken.yaml
printf 'version: 1\nrules:\n  - match: "**.q_proj.weight"\n    scheme: mxfp4\n  - match: linear\n    scheme: mxfp8\n' >mixed.yaml
halftone plan "$MODEL" --recipe mixed.yaml
check $? -ne 0
check "$(wc -l <"$OUTPUT/stderr")" -eq 6
