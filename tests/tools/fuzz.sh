#!/bin/bash
# Runs every fuzz target for the given number of seconds, one after the other. Stops at the first finding.
# What is found on the way is kept beside the build; the committed corpora (fuzz/corpus) are only read.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=$1
found=${CARGO_TARGET_DIR:-target}/fuzz-found

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'installing cargo-fuzz'
    cargo install --quiet --locked cargo-fuzz
fi
# The sanitizer is a nightly feature; the stable compiler has it behind this variable.
export RUSTC_BOOTSTRAP=1

count=0
for target in $(cargo fuzz list); do
    printf '\n== %s, %s s\n' "$target" "$seconds"
    mkdir -p "$found/$target"
    cargo fuzz run "$target" "$found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1
    count=$((count + 1))
done
printf '\n%s fuzz targets ran, no finding\n' "$count"
