#!/usr/bin/env bash
# Make docs/report.png, the README's picture of a report, from a record; it needs chromium.
#
#   scripts/picture.sh [RECORD]      (results/robustness/mnist-ensemble-0.1-vote.json)
#
# The picture is an excerpt of the HTML page: its head, the first three checks and two curves.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh
scripts/browser.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$PYTHON" - "${1:-results/robustness/mnist-ensemble-0.1-vote.json}" "$folder/page.html" <<'PYTHON'
import sys

from empir.records.runs import read_json
from empir.report.page import page

hidden = ".checks li:nth-child(n+4), .curves figure:nth-child(n+3), nav, main > section:not(:has("
hidden += "#checks, #curves)) { display: none }"
text = page(read_json(sys.argv[1]), shown=[]).replace("</style>", hidden + "</style>")
with open(sys.argv[2], "w", encoding="utf8") as file:
    file.write(text)
PYTHON

chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --blink-settings=preferredColorScheme=1 \
  --user-data-dir="$folder/profile" --screenshot="$folder/page.png" --window-size=1200,1600 \
  "file://$folder/page.html" 2>/dev/null

"$PYTHON" - "$folder/page.png" docs/report.png <<'PYTHON'
import sys

from PIL import Image, ImageChops

image = Image.open(sys.argv[1]).convert("RGB")
paper = Image.new("RGB", image.size, image.getpixel((0, 0)))
left, top, right, bottom = ImageChops.difference(image, paper).getbbox()
image = image.crop((left - 24, top - 24, right + 24, bottom + 24))
image.quantize(64).save(sys.argv[2], optimize=True)
PYTHON
echo "docs/report.png"
