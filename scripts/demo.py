"""The demo of ``make demo``: index Prefect's own source, ask about it, show where to look.

Nothing is special about it: it writes a config of ten lines that extends ``configs/codebase.yaml``
and calls the same commands that a user would. The tests index and question the same corpus with the
same config.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
DEMO = HERE / ".demo"
QUESTION = "How does Prefect decide whether a failed task run is retried?"

# The packaged chat model has 135 million parameters: it needs few passages and a short leash.
CONFIG = """\
extends: {base}
models:
  small: {{provider: dmr, model: ai/smollm2, temperature: 0, max_tokens: 160}}
agents:
  root: {{model: small, instruction: Answer in one or two sentences.}}
rag:
  codebase:
    docs: ["./prefect/**/*.py"]
    results: {{limit: 3}}
"""


def prepare(folder: Path) -> Path:
    """Put the corpus and its config into a folder; give the config.

    Args:
        folder: Made when it is not there; an index in it stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "codebase.yaml"
    base = os.path.relpath(HERE / "configs" / "codebase.yaml", folder)
    config.write_text(CONFIG.format(base=base))
    source = folder / "prefect"
    source.unlink(missing_ok=True)
    spec = find_spec("prefect")
    assert spec is not None, "prefect is a dependency"
    assert spec.origin is not None, "prefect is a package"
    source.symlink_to(Path(spec.origin).parent, target_is_directory=True)
    return config


def main() -> int:
    """Run the demo; give the exit code of the first command that failed."""
    config = prepare(DEMO)
    commands = [
        ["check", str(config)],
        ["index", str(config), "--embedded"],
        ["search", str(config), "retry a failed task run", "--embedded", "--limit", "5"],
        ["run", str(config), QUESTION, "--embedded"],
    ]
    for words in commands:
        if code := _merganser(words):
            return code
    status = [sys.executable, "-m", "merganser", "server", "--status", "--json"]
    answer = subprocess.run(status, check=False, capture_output=True, text=True)
    url = json.loads(answer.stdout or "{}").get("url") or os.environ.get("PREFECT_API_URL")
    print(f"\nSee the runs, their graph and their reports: {url}/runs")
    print("It asks for a password; `merganser server --ui` opens it signed in.")
    print("The server and the model runner end by themselves when unused for half an hour.")
    return 0


def _merganser(words: list[str]) -> int:
    shown = " ".join(repr(word) if " " in word else word for word in words)
    shown = shown.replace(f"{HERE}{os.sep}", "")
    print(f"\n$ merganser {shown}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "merganser", *words], check=False).returncode
    print(f"  ({time.monotonic() - started:.1f} s)", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
