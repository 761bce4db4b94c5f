#!/usr/bin/env bash
# Builds and tests EdgeVLKit on Linux: apps/ios/test.sh. Options of `swift test` may follow, such as --filter NAME.
# apps/ios/test.sh --format writes the sources as the linter wants them; --latency BUNDLE THREADS is for tools/swift_latency.py.
#
# A Swift on the path is used as it is; else Debian's is installed once into EDGEVL_SWIFT_ROOT (a folder of Debian trixie,
# 2.6 GB, which needs root and debootstrap), from the mirror of this machine's apt: --install does only that. Where it
# cannot be, the exit code is 75. EDGEVL_PYTHON has this repository's packages: its ONNX Runtime runs the bundles.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
here=${EDGEVL_IOS:-$repo/apps/ios} # another one to test: a copy inside this repository with a planted fault
python=${EDGEVL_PYTHON:-python3}
root=${EDGEVL_SWIFT_ROOT:-/var/tmp/edgevl-swift}
fixtures=${EDGEVL_FIXTURES:-$repo/build/android-fixtures} # those of apps/android: written once for both
say() { echo "test.sh: $*" >&2; }

install_swift() {
  say "installing Swift into $root (a few minutes, once)"
  command -v debootstrap > /dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap > /dev/null; }
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$')
  rm -rf "$root"
  debootstrap --variant=minbase trixie "$root" "$mirror" > /dev/null
  cp /etc/resolv.conf "$root/etc/"
  cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
  chroot "$root" apt-get update -qq
  chroot "$root" apt-get install -y -qq --no-install-recommends swiftlang libc6-dev libstdc++-14-dev > /dev/null
  # Of ONNX Runtime only the header: the library is the one of Python's package.
  chroot "$root" sh -c 'cd /tmp && apt-get download -qq libonnxruntime-dev && dpkg -x libonnxruntime-dev*.deb /opt/onnxruntime'
  mount --bind "$repo" "$root/mnt" && umount "$root/mnt" # some containers do not let root
  touch "$root/edgevl-complete"
}
if [ "${1:-}" = --install ]; then
  install_swift
  exit
fi

# Shows this repository, the fixtures and ONNX Runtime inside the root, until the script ends.
enter() {
  local from to
  for from in /proc "$repo" "$fixtures" "$library" "$@"; do
    to=$root$from
    mkdir -p "$to"
    mountpoint -q "$to" || { mount --bind "$from" "$to"; mounted+=("$to"); }
  done
}
leave() { for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount "${mounted[i]}"; done; }

in_swift() {
  if command -v swift > /dev/null; then
    (cd "$here" && env "${variables[@]}" "$@")
  else
    chroot "$root" env LD_LIBRARY_PATH=/usr/libexec/swift/lib/swift/linux HOME=/root PATH=/usr/bin:/bin "${variables[@]}" \
      sh -c 'cd "$0" && exec "$@"' "$here" "$@"
  fi
}

"$python" "$repo/tests/apps/android_fixtures.py" "$fixtures"
fixtures=$(cd "$fixtures" && pwd)
library=$("$python" -c 'import onnxruntime, os; print(os.path.dirname(onnxruntime.__file__) + "/capi")')
variables=("EDGEVL_FIXTURES=$fixtures" "EDGEVL_ONNXRUNTIME=$(ls "$library"/libonnxruntime.so.1.* | head -n 1)")
mounted=()
latency=()
if [ "${1:-}" = --latency ]; then latency=("$(cd "$2" && pwd)" "$3"); fi
if ! command -v swift > /dev/null; then
  if [ ! -e "$root/edgevl-complete" ] && ! "$0" --install; then
    say "Swift is not here and cannot be installed: put one on the path, or name a folder that has it by EDGEVL_SWIFT_ROOT"
    exit 75
  fi
  trap leave EXIT
  enter "${latency[@]:0:1}"
fi
if [ "${1:-}" = --format ]; then
  in_swift swift format --in-place --recursive Package.swift Sources Tests Sample.swiftpm
  exit
fi
# Optimized, since a tensor is resized and hashed for each case; the tests see what is internal.
options=(-c release -Xswiftc -enable-testing --scratch-path "${EDGEVL_SWIFT_BUILD:-/var/tmp/edgevl-swift-build}")
options+=(-Xcc "-I${EDGEVL_ONNXRUNTIME_INCLUDE:-/opt/onnxruntime/usr/include/onnxruntime}")
# One file of a copy changes at a time: only it is compiled anew.
[ -z "${EDGEVL_IOS:-}" ] || options+=(-Xswiftc -no-whole-module-optimization -Xswiftc -incremental)
if [ "${#latency[@]}" -gt 0 ]; then
  in_swift swift run --quiet "${options[@]}" edgevl-latency "${latency[@]}"
  exit
fi
[ -n "${EDGEVL_IOS:-}" ] || in_swift swift format lint --strict --recursive Package.swift Sources Tests Sample.swiftpm
in_swift swift build "${options[@]}" --build-tests
in_swift swift test "${options[@]}" --skip-build "$@"
