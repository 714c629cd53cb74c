#!/usr/bin/env bash
# Installs the programs that the bench compares with into a Python environment: `tests/bench/peers.sh [FOLDER]`.
# FOLDER is target/bench-peers when it is not given. Twice is harmless, and quick.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-target/bench-peers}

packages=(pyinfra==3.10.0 asyncssh==2.24.1 ansible-core==2.21.5)

# The newest Ansible wants Python 3.12.
python=
for candidate in ${PYTHON:-} python3.12 python3.13 python3.14 python3 "$HOME"/.pyenv/versions/3.1[2-9].*/bin/python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "peers.sh: no Python 3.12 or later here: say PYTHON=/where/it/is" >&2
  exit 1
fi
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
"$folder/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -E '^(pyinfra|asyncssh|ansible-core) '
