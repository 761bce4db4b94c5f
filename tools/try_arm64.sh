#!/bin/sh
# Run apps/jetson/benchmark.py on 64-bit Arm without owning one: a Debian userland under qemu-user, real aarch64 wheels.
#
#     sudo tools/try_arm64.sh [FOLDER]      (default /tmp/edgevl-arm64; about 15 minutes the first time, 2 GB)
#
# By hand, on Debian, as root, with edgevl on the PATH:
#     apt-get install debootstrap qemu-user-static binfmt-support
# Proves that every import, number and golden case is right on Arm. Times under emulation mean nothing.
set -eu

folder=$(mkdir -p "${1:-/tmp/edgevl-arm64}" && cd "${1:-/tmp/edgevl-arm64}" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
arm=$folder/root

for program in debootstrap qemu-aarch64-static update-binfmts edgevl; do
    command -v $program >/dev/null || { echo "error: $program is missing; see the top of $0" >&2; exit 3; }
done

[ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
update-binfmts --enable qemu-aarch64

if [ ! -e "$folder/made" ]; then # a half made one is made anew
    rm -rf "$arm"
    debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm "$arm" >"$folder/debootstrap.log" 2>&1 ||
        { tail -5 "$folder/debootstrap.log" >&2; exit 1; }
    touch "$folder/made"
fi

version=$(chroot "$arm" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -rf "$arm/opt/site" "$arm/opt/jetson"
python3 -m pip install --quiet --target "$arm/opt/site" --only-binary=:all: --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    numpy pillow onnxruntime
cp -r "$here/apps/jetson" "$arm/opt/jetson"

edgevl export --target onnx --out "$arm/opt/fp32.edgevl" --force
edgevl export --target onnx --precision w8a8 --dialect arm --out "$arm/opt/w8a8.edgevl" --force
edgevl data scenes --split test --count 40 --out "$arm/opt/scenes-test" --force

chroot "$arm" uname -m
# /proc is mounted for one process and gone with it. /sys is not: with both, onnxruntime's look at the x86 processor
# behind qemu ends in a segmentation fault; without, it warns that it knows no processor.
for bundle in fp32 w8a8; do
    unshare --mount sh -c 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$arm" \
        env PYTHONPATH=/opt/site PYTHONDONTWRITEBYTECODE=1 python3 /opt/jetson/benchmark.py "/opt/$bundle.edgevl" \
        --preset rapid --threads 1 --samples /opt/scenes-test --out "/opt/$bundle.json" 2>&1
done
