#!/bin/sh
# Installs Wardline from this folder alone, without network: sh install.sh [DIRECTORY]
# Needs python3 (3.11 or newer) with venv. Every file is checked against the lock file's hashes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-/opt/wardline}

if [ -e "$to/bin/python3" ]; then
    echo "$to is there already; to upgrade, install into another folder and let $to be a link to that" >&2
    exit 1
fi
python3 -m venv "$to"
pip() { "$to/bin/python3" -m pip --isolated --quiet --disable-pip-version-check "$@"; }
pip install --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements.lock"
(cd "$here" && sha256sum --quiet --check wardline.sha256)
pip install --no-index --no-deps "$here"/wheels/wardline-*.whl
mkdir -p "$to/docs"
cp -R "$here/docs/." "$to/docs/"
for program in wardline wardline-relay wardline-archive; do
    "$to/bin/$program" --help >/dev/null
done
echo "installed: $to/bin/wardline, wardline-relay, wardline-archive"
