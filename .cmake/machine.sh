# Sourced by the run.sh scripts, examples/get-data.sh and .ci/run: installs what a Debian or Ubuntu machine lacks,
# configures and builds. Needs no more than a POSIX shell. The caller sets `root`, the repository's folder.

say() { printf '%s\n' "$*" >&2; }

# logged <log> <what it does> <command...>: one short line; the command's output goes to the log, and to the terminal
# when the command fails. A terminal sees the seconds and the log's last line meanwhile.
logged() {
    log=$1
    say "$2 ..."
    shift 2
    mkdir -p "$(dirname "$log")"
    ticker=""
    [ ! -t 2 ] || { : >"$log"; ticking "$log" & ticker=$!; }
    status=0
    "$@" >"$log" 2>&1 || status=$?
    [ -z "$ticker" ] || { kill "$ticker" 2>/dev/null; wait "$ticker" 2>/dev/null; printf '\r%-79s\r' "" >&2; } || :
    [ $status != 0 ] || return 0
    cat "$log" >&2
    say "failed ($status): $*"
    return "$status"
}

# A background job ignores Ctrl-C: this one ends when the script is gone.
ticking() {
    seconds=0
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 1))
        last=$(tail -c 400 "$1" | tr '\r\t' '\n ' | tail -n 1)
        printf '\r%5d s  %-70.70s' "$seconds" "$last" >&2
    done
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need_packages <package...>: installs those that are missing. A tool that is there without its package (g++, cmake,
# make, clang) is taken as it is.
need_packages() {
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "not a Debian or Ubuntu machine: using what is installed"
        return 0
    fi
    missing=""
    for package in "$@"; do
        case $package in
            g++) command -v "${CXX:-c++}" >/dev/null 2>&1 && continue ;;
            cmake | make) command -v "$package" >/dev/null 2>&1 && continue ;;
        esac
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null 2>&1; then
        as_root="sudo"
    else
        say "These packages are missing, and installing them takes root or sudo:$missing"
        say "As root: apt-get update && apt-get install$missing"
        return 1
    fi
    logged "$root/build/apt-update.log" "updating the package lists" \
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update || return
    logged "$root/build/apt-install.log" "installing$missing" \
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends $missing
}

build_packages="g++ cmake make libxtensor-dev nlohmann-json3-dev zlib1g-dev libopenblas-dev"

# Processes to compile with: one a core, but no more than memory allows (a translation unit takes up to 1.5 GB).
jobs() {
    cores=$(nproc 2>/dev/null || echo 1)
    available=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo 2>/dev/null || true)
    [ "${available:-$cores}" -ge 1 ] || available=1
    if [ "${available:-$cores}" -lt "$cores" ]; then echo "$available"; else echo "$cores"; fi
}

# build_tree <folder> <target> <cmake option...>: configures and builds the target in Release.
build_tree() {
    tree=$1
    target=$2
    shift 2
    logged "$tree/configure.log" "configuring" \
        cmake -S "$root" -B "$tree" -DCMAKE_BUILD_TYPE=Release -DLAMELLA_BUILD_BENCH=OFF \
        "-DLAMELLA_WARNINGS_AS_ERRORS=$([ "${CI:-}" = true ] && echo ON || echo OFF)" "$@" || return
    logged "$tree/build-$target.log" "building $target (log: $tree/build-$target.log)" \
        cmake --build "$tree" --target "$target" --parallel "$(jobs)"
}
