#!/bin/bash
# Installs what is lacking, and nothing else: setup.sh [build] [grammar] [postgresql] [python] [drivers VENV] [pgbouncer] [strace] [valgrind]
# Debian and Ubuntu; as root or through sudo. Does nothing, and quickly, when everything is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=()
venv=
while [ $# -gt 0 ]; do
    case "$1" in
    build)
        # rustc links with cc.
        command -v cc >/dev/null || wanted+=(gcc libc6-dev)
        ;;
    grammar)
        # PostgreSQL's parser is C, whose header is read by libclang, which needs headers of its own.
        ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang-*.so* >/dev/null 2>&1 &&
            ls /usr/lib/llvm-*/lib/clang/*/include/stdbool.h /usr/lib/clang/*/include/stdbool.h >/dev/null 2>&1 ||
            wanted+=(libclang)
        ;;
    postgresql)
        [ -n "${PGDOG_TEST_PGBIN:-}" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted+=(postgresql)
        command -v psql >/dev/null || wanted+=(postgresql-client)
        command -v pgbench >/dev/null || ls /usr/lib/postgresql/*/bin/pgbench >/dev/null 2>&1 || wanted+=(postgresql-contrib)
        ;;
    python)
        command -v python3 >/dev/null || wanted+=(python3)
        ;;
    drivers)
        venv=$2
        shift
        python3 -c 'import venv, ensurepip' 2>/dev/null || wanted+=(python3 python3-venv)
        command -v node >/dev/null || wanted+=(nodejs)
        command -v npm >/dev/null || wanted+=(npm)
        command -v javac >/dev/null || wanted+=(default-jdk-headless)
        [ -e /usr/share/java/postgresql.jar ] || wanted+=(libpostgresql-jdbc-java)
        command -v openssl >/dev/null || wanted+=(openssl)
        ;;
    pgbouncer) [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || wanted+=(pgbouncer) ;;
    strace) command -v strace >/dev/null || wanted+=(strace) ;;
    valgrind) command -v valgrind >/dev/null || wanted+=(valgrind) ;;
    *)
        echo "setup.sh: what is '$1'?" >&2
        exit 2
        ;;
    esac
    shift
done

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if [ ${#wanted[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup.sh: install these yourself, this system has no apt-get: ${wanted[*]}" >&2
        exit 1
    fi
    echo "installing: ${wanted[*]}"
    # The packages of servers start a service. We want only the programs.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
        trap 'as_root rm -f $policy' EXIT
    fi
    # The system's own version of libclang and its headers; the package without a version brings all of LLVM along.
    name_libclang() {
        [[ " ${wanted[*]} " == *" libclang "* ]] || return 0
        local version
        version=$(apt-cache depends libclang-dev | grep -om 1 'libclang-[0-9]*-dev' | grep -o '[0-9]*')
        read -ra wanted <<<"${wanted[*]/#libclang/libclang1-$version libclang-common-$version-dev}"
    }
    log=$(mktemp)
    if ! {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update && name_libclang &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${wanted[@]}"
    } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi

# The Python drivers: a virtual environment, made anew when the list of packages changes.
if [ -n "$venv" ]; then
    if ! cmp -s tests/real/requirements.txt "$venv/requirements.txt"; then
        echo "installing Python drivers into $venv"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/real/requirements.txt
        cp tests/real/requirements.txt "$venv/requirements.txt"
    fi
    if ! cmp -s tests/drivers/package.json tests/drivers/node_modules/.installed.json; then
        echo "installing Node.js drivers into tests/drivers/node_modules"
        rm -rf tests/drivers/node_modules
        (cd tests/drivers && npm install --silent --no-audit --no-fund --no-package-lock >/dev/null)
        cp tests/drivers/package.json tests/drivers/node_modules/.installed.json
    fi
fi
