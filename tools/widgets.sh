#!/usr/bin/env bash
# Runs tools/widget_check.py where a Chromium is there or Debian's can be installed; says why not elsewhere.
set -euo pipefail
python=$1
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1 || true
fi
if ! chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
    echo "widgets not checked in a browser: no Chromium is here, and none could be installed (needs root and apt-get)"
    exit 0
fi
"$python" tools/widget_check.py --chromium "$chromium" --timeout 240
