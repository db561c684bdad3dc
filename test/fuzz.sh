#!/bin/bash
# Fuzzes each target of this module and of the others in the tree: see `make fuzz`.
# TIME is for each target, ONLY a regular expression of PACKAGE.TARGET, and LANES how many run at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
export TIME=${TIME:-1m} OUT=${OUT:-$(mktemp -d)}
targets() { # one on each line: MODULE PACKAGE TARGET
  git grep -lE '^func Fuzz' -- '*_test.go' | while read -r file; do
    package=$(dirname "$file") module=$package
    until [ -e "$module/go.mod" ]; do module=$(dirname "$module"); done
    grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed "s|^func |$module $package |"
  done | sort -u
}
fuzz() { # MODULE PACKAGE TARGET: what it says, and then its line of the table
  local log=$OUT/${2//\//_}.$3 result=ok
  (cd "$1" && go test -run '^$' -fuzz "^$3\$" -fuzztime "$TIME" -fuzzminimizetime 20x -parallel 1 ${TESTFLAGS:-} "$(realpath --relative-to="$1" "$2" | sed 's|^|./|')") >"$log" 2>&1 || result=FAILED
  awk -v name="$2.$3" -v result=$result '
    /^fuzz: elapsed: / && /execs: / { sub(/,/, "", $3); t = $3; for (i = 1; i < NF; i++) { if ($i == "execs:") n = $(i + 1); if ($i == "interesting:") new = $(i + 1) } }
    function seconds(t,  s) { if (match(t, /[0-9]+h/)) s += 3600 * substr(t, RSTART, RLENGTH - 1); if (match(t, /[0-9]+m/)) s += 60 * substr(t, RSTART, RLENGTH - 1)
      if (match(t, /[0-9]+s/)) s += substr(t, RSTART, RLENGTH - 1); return s }
    END { s = seconds(t); printf "%-52s %10d %8d %6d  %s\n", name, n, s ? n / s : n, new, result }' "$log" | tee "$log.line"
  if [ $result = FAILED ]; then
    cat "$log"
    return 1
  fi
}
export -f fuzz
printf '%-52s %10s %8s %6s  %s\n' target executions 'a second' new result
targets | awk -v only="${ONLY:-.}" '$2 "." $3 ~ only' | xargs -P "${LANES:-1}" -n 3 bash -c 'fuzz "$@"' fuzz
