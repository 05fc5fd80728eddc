#!/usr/bin/env bash
# Make a Python for 64-bit Arm under qemu with the pinned packages of a bundle, to run its self-check without a board.
#
#   ci/aarch64.sh FOLDER BUNDLE/requirements.txt
#   FOLDER/python BUNDLE/selfcheck.py --seconds 1
#
# For Debian, with qemu-aarch64-static (apt-get install qemu-user-static) and pip. Packages are unpacked into FOLDER,
# nothing is installed. Ignore the latency under emulation.
set -euo pipefail

folder=${1:?usage: ci/aarch64.sh FOLDER REQUIREMENTS}
requirements=$(realpath "${2:?usage: ci/aarch64.sh FOLDER REQUIREMENTS}")
qemu=$(command -v qemu-aarch64-static) || { echo "error: qemu-aarch64-static is not installed. Run apt-get install qemu-user-static." >&2; exit 4; }
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/root" "$folder/site"
folder=$(realpath "$folder")
touch "$folder/apt/status"
apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::lists=$folder/apt/lists"
    -o "Dir::State::status=$folder/apt/status" -o "Dir::Cache=$folder/apt" -o APT::Sandbox::User=root
    -o Debug::NoLocking=1)

apt-get "${apt[@]}" update
python=$(apt-cache "${apt[@]}" show python3 | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p' | head -1)
apt-get "${apt[@]}" install --download-only --yes --no-install-recommends \
    "python$python-minimal" "libpython$python-stdlib" libstdc++6 libgomp1
for package in "$folder"/apt/archives/*.deb; do dpkg -x "$package" "$folder/root"; done

platforms=()
for glibc in 17 27 28 31 34 36; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$folder/site" --only-binary=:all: \
    --implementation cp --python-version "$python" "${platforms[@]}" --platform manylinux2014_aarch64 -r "$requirements"
printf '#!/bin/sh\nPYTHONPATH=%q exec %q -L %q %q -B "$@"\n' \
    "$folder/site" "$qemu" "$folder/root" "$folder/root/usr/bin/python$python" >"$folder/python"
chmod +x "$folder/python"
"$folder/python" -c 'import platform, numpy, PIL; print(platform.machine(), "Python", platform.python_version())'
