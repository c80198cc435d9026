#!/bin/bash
# Runs every fuzz target for the given number of seconds, one after the other. Stops at the first finding.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=$1

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'installing cargo-fuzz'
    cargo install --quiet --locked cargo-fuzz
fi
# The sanitizer is a nightly feature; the stable compiler has it behind this variable.
export RUSTC_BOOTSTRAP=1

count=0
for target in $(cargo fuzz list); do
    printf '\n== %s, %s s\n' "$target" "$seconds"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -print_final_stats=1
    count=$((count + 1))
done
printf '\n%s fuzz targets ran, no finding\n' "$count"
