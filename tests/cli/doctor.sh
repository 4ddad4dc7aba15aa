# doctor: the JSON keys that others rely on; a mask on the CPU shows.
expect 0 halftone doctor >text
check -s text
expect 0 halftone doctor --json --threads 2 >out.json
check "$(json out.json schema)" = halftone.doctor/1
check "$(json out.json cpu.threads)" = 2
check -n "$(json out.json cpu.name cpu.features.0.name cpu.features.0.present cpu.features.0.source)"
(export HALFTONE_CPU=baseline; expect 0 halftone doctor --json >masked.json)
check "$(json masked.json cpu.features.0.enabled)" = false
(export HALFTONE_CPU=nonsense; expect 2 halftone doctor --json)
check "$(json out.json libraries.0.name)" = jansson
check -n "$(json out.json libraries.0.version libraries.5.version)"
