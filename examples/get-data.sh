#!/bin/sh
# Fetches MNIST and CIFAR-10 into a directory: mnist/ gets the four IDX files, cifar-10/ the six binary batches.
#
#   get-data.sh [DIRECTORY [mnist|cifar-10]...]      default: ./data, both sets
#
# Every file is checked by SHA-256 before it gets its name, so a directory never holds half a file; what is there and
# right is not fetched again. Needs curl or wget (installed where both are missing, on Debian and Ubuntu), gzip, tar,
# and sha256sum, shasum or openssl.
set -eu

fail() {
    echo "get-data.sh: $*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

sha256_of() {
    if have sha256sum; then
        sha256sum <"$1" | cut -d ' ' -f 1
    elif have shasum; then
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    else
        openssl dgst -sha256 <"$1" | sed 's/^.*= *//'
    fi
}

is_right() { # FILE SHA256
    [ -f "$1" ] && [ "$(sha256_of "$1")" = "$2" ]
}

download() { # URL FILE
    if have curl; then
        curl --fail --location --silent --show-error --connect-timeout 30 --retry 2 --output "$2" "$1"
    else
        wget --quiet --timeout=30 --tries=3 --output-document="$2" "$1"
    fi
}

# Tries one mirror after the other until a file with the right sum is there.
fetch() { # NAME SHA256 FILE MIRROR...
    wanted=$1 sum=$2 file=$3
    shift 3
    for mirror in "$@"; do
        echo "fetching $mirror/$wanted"
        if ! download "$mirror/$wanted" "$file"; then
            echo "get-data.sh: $mirror/$wanted: not available" >&2
        elif ! is_right "$file" "$sum"; then
            echo "get-data.sh: $mirror/$wanted: expected SHA-256 $sum, found $(sha256_of "$file")" >&2
        else
            return 0
        fi
        rm -f "$file"
    done
    fail "$wanted: no mirror has it"
}

get_mnist() {
    # Name, SHA-256 packed, SHA-256 unpacked.
    while read -r name packed unpacked; do
        if is_right "$directory/mnist/$name" "$unpacked" || is_right "$directory/mnist/$name.gz" "$packed"; then
            echo "mnist/$name is there"
            continue
        fi
        fetch "$name.gz" "$packed" "$scratch/$name.gz" \
            https://ossci-datasets.s3.amazonaws.com/mnist \
            https://storage.googleapis.com/cvdf-datasets/mnist
        gzip -dc "$scratch/$name.gz" >"$scratch/$name" || fail "$name.gz: cannot be unpacked"
        is_right "$scratch/$name" "$unpacked" || fail "$name: unpacked, it has a wrong SHA-256"
        mkdir -p "$directory/mnist"
        mv -f "$scratch/$name" "$directory/mnist/$name"
        rm -f "$scratch/$name.gz"
    done <<END
train-images-idx3-ubyte 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train-labels-idx1-ubyte 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
t10k-images-idx3-ubyte 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
t10k-labels-idx1-ubyte f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
END
}

get_cifar10() {
    batches="data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch"
    # The archive's sum was checked before its batches were moved here, so their lengths tell whether all are there.
    complete=yes
    for batch in $batches; do
        file=$directory/cifar-10/$batch.bin
        if ! [ -f "$file" ] || [ "$(wc -c <"$file")" -ne 30730000 ]; then complete=no; fi
    done
    if [ "$complete" = yes ]; then
        echo "cifar-10 is there"
        return 0
    fi
    fetch cifar-10-binary.tar.gz c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd \
        "$scratch/cifar-10-binary.tar.gz" https://www.cs.toronto.edu/~kriz
    (cd "$scratch" && tar -xzf cifar-10-binary.tar.gz) || fail "cifar-10-binary.tar.gz: cannot be unpacked"
    files="batches.meta.txt $(for batch in $batches; do printf '%s.bin ' "$batch"; done)"
    for file in $files; do
        [ -f "$scratch/cifar-10-batches-bin/$file" ] || fail "cifar-10-binary.tar.gz: $file is not in it"
    done
    mkdir -p "$directory/cifar-10"
    for file in $files; do
        mv -f "$scratch/cifar-10-batches-bin/$file" "$directory/cifar-10/$file"
    done
}

have sha256sum || have shasum || have openssl || fail "sha256sum, shasum or openssl is needed to check what arrives"
have curl || have wget || {
    root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
    . "$root/.cmake/machine.sh"
    need_packages curl ca-certificates
}
have curl || have wget || fail "curl or wget is needed"

directory=${1:-data}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- mnist cifar-10
for choice in "$@"; do
    case $choice in
    mnist | cifar-10) ;;
    *) fail "unknown data set $choice: expected mnist or cifar-10" ;;
    esac
done

mkdir -p "$directory" || fail "$directory: cannot be made"
# In the same directory, so that mv is one step.
scratch=$(mktemp -d "$directory/.get-data-XXXXXX") || fail "$directory: cannot be written"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

for choice in "$@"; do
    case $choice in
    mnist) get_mnist ;;
    cifar-10) get_cifar10 ;;
    esac
done
echo "done: $directory"
