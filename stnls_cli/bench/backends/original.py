"""The original library, whose package is called `stnls` too: in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import stnls_cli
from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session
from stnls_cli.bench.timer import Timing

PATIENCE = 120.0
"""Seconds for an answer."""
WORKER = "stnls_cli.bench.backends.original_worker"


class Original(Backend):
    """Asks the worker; one that dies is started again for the next problem."""

    name = "original"

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="stnls-bench-")
        self._words = Path(self._folder.name) / "stderr"

    def available(self, session: Session) -> str | None:
        """Where --peer-path names it and it can be imported."""
        if session.peer_path is None:
            return "name the folder of the original's package: --peer-path DIR"
        answer = self._ask({}, session)
        problem: str | None = answer.get("error")
        return None if problem is None else f"cannot be imported: {problem}"

    def covers(self, case: Case) -> bool:
        """All but the attention that is made of two operators."""
        return case.problem.operator != "NeighbourhoodAttention"

    def run(self, case: Case, session: Session) -> Outcome:
        """Hands the tensors over in a file and waits for the times."""
        path = Path(self._folder.name) / "inputs.pt"
        torch.save([x.cpu() for x in case.inputs], path)
        p = case.problem
        try:
            answer = self._ask(
                {
                    "operator": p.operator,
                    "options": p.search_options(),
                    "patch": {"ps": p.ps, "itype": p.grid},
                    "gradients": p.gradients,
                    "heads": p.heads,
                    "inputs": str(path),
                    "device": str(session.device),
                    "threads": torch.get_num_threads(),
                    "repeat": session.plan.repeat,
                    "seconds": session.plan.seconds,
                },
                session,
            )
        finally:
            path.unlink(missing_ok=True)
        if answer.get("error") is not None:
            raise RuntimeError(str(answer["error"]))
        peak = answer["peak_bytes"]
        return Outcome(
            Timing([float(t) for t in answer["times"]], None if peak is None else int(peak))
        )

    def close(self) -> None:
        """Ends the worker."""
        self._end()
        self._folder.cleanup()

    def _ask(self, request: dict[str, Any], session: Session) -> dict[str, Any]:
        """One request, one answer, each a line of JSON."""
        if self._process is None:
            self._start(session)
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else ""
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            self._end()
            if not ready:
                return {"error": f"no answer within {PATIENCE:.0f} s"}
            return {
                "error": f"the process ended with code {process.returncode}{self._last_words()}"
            }
        return answer

    def _start(self, session: Session) -> None:
        assert session.peer_path is not None
        peer = os.path.abspath(session.peer_path)
        tool = str(Path(stnls_cli.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((peer, tool))}
        environment.pop("STNLS_LIBRARY_DIR", None)
        with self._words.open("w") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, peer],
                env=environment,
                cwd=self._folder.name,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,  # Ctrl-C is for us, who end it
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _last_words(self) -> str:
        lines = self._words.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""
