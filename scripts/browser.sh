#!/usr/bin/env bash
# Make sure that there is a `chromium` on the PATH, in which the tests look at HTML reports; does
# nothing where there is. On Debian and its derivatives root gets it installed.
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "error: no chromium on the PATH: install it, on Debian with apt-get install chromium" >&2
  exit 1
fi
echo "installing chromium" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >&2
apt-get -qq install --no-install-recommends chromium >/dev/null
command -v chromium >/dev/null
