"""As much of a W&B server as the wandb package asks for: GraphQL, the file stream, uploads. On loopback.

    with WandbServer() as server:
        subprocess.run(command, env=os.environ | server.environment)
        server.runs["id"].history

It can misbehave: `server.mood` is "well", "error" (500 to all), "hang" (no answer), "reject" (401), "leave" (well
until the run's end, when the first artifact comes, then an error to all), "gone" (every connection is cut).
"""

import contextlib
import gzip
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Answer = dict[str, Any]
HANG_SECONDS = 60


@dataclass
class Artifact:
    """What was uploaded under one name."""

    name: str
    kind: str
    digest: str
    metadata: dict[str, Any]
    aliases: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


@dataclass
class TrackedRun:
    """What the server knows of one run."""

    name: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    raw_config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    resumed: int = 0
    exit_code: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {name: entry["value"] for name, entry in self.raw_config.items() if name != "_wandb"}

    @property
    def axis(self) -> str:
        """The metric over which all others are drawn: what `define_metric("*", step_metric=...)` said."""
        metrics = self.raw_config["_wandb"]["value"]["m"]  # 1 = name, 2 = pattern, 5 = place of its axis, from 1
        (everything,) = (metric for metric in metrics if metric.get("2") == "*")
        return str(metrics[everything["5"] - 1]["1"])

    def lines(self, stream: str) -> list[Any]:
        return [json.loads(line) for _, line in sorted(self.streams.get(stream, {}).items())]

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.lines("wandb-history.jsonl")

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.lines("wandb-summary.json") or [{}])[-1]
        return found


class WandbServer:
    """The server, in threads of the test's own process."""

    def __init__(self) -> None:
        self.runs: dict[str, TrackedRun] = {}
        self.artifacts: list[Artifact] = []
        self.sweep = ""
        self.sweep_runs: list[Answer] = []  # what an agent is given to run: {"optim.lr": 0.1, ...}
        self.mood = "well"
        self.requests = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0123456789" * 4, "WANDB_ERROR_REPORTING": "false"}

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: bytes) -> tuple[int, Answer]:
        """The reply to a request: its status and its JSON."""
        self.requests += 1
        if self.mood == "leave" and b"mutation CreateArtifact" in body:
            self.mood = "error"
        if self.mood == "hang":
            time.sleep(HANG_SECONDS)
        if self.mood in ("error", "hang", "reject"):
            return {"reject": 401}.get(self.mood, 500), {"errors": [{"message": self.mood}]}
        with self._lock:
            if path == "/graphql":
                return 200, {"data": self._graphql(json.loads(body))}
            if found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
                return 200, self._stream(self.runs[found[1]], json.loads(body))
            if found := re.fullmatch(r"/upload/(run|artifact)/([^/]+)/(.+)", path):
                owner = self.runs[found[2]] if found[1] == "run" else self.artifacts[int(found[2])]
                owner.files[found[3]] = body
                return 200, {}
            return 404, {}

    def _stream(self, run: TrackedRun, sent: Answer) -> Answer:
        for name, part in (sent.get("files") or {}).items():
            stream = run.streams.setdefault(name, {})
            stream.update(enumerate(part["content"], part["offset"]))
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")
        return {"limits": {}}

    def _graphql(self, body: Answer) -> Answer:
        named = body.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
        operation = named if isinstance(named, str) else named[1] if named else ""
        reply: Callable[[Answer], Answer] | None = getattr(self, f"_on_{operation}", None)
        return reply(body.get("variables") or {}) if reply else {}

    def _project(self, name: str) -> Answer:
        return {"id": "P", "name": name, "entity": {"id": "E", "name": "tester"}}

    def _on_Viewer(self, _: Answer) -> Answer:
        teams: Answer = {"edges": []}
        return {"viewer": {"id": "U", "entity": "tester", "username": "tester", "flags": "{}", "teams": teams}}

    def _on_ServerInfo(self, _: Answer) -> Answer:
        return {"serverInfo": {"cliVersionInfo": None, "latestLocalVersionInfo": None}}

    def _on_ServerFeaturesQuery(self, _: Answer) -> Answer:
        return {"serverInfo": {"features": []}}

    def _on_RunResumeStatus(self, asked: Answer) -> Answer:
        run, bucket = self.runs.get(asked["name"]), None
        if run is not None:
            run.resumed += 1
            tail = [line for _, line in sorted(run.streams.get("wandb-history.jsonl", {}).items())[-1:]]
            bucket = {
                "id": asked["name"],
                "name": asked["name"],
                "displayName": run.name,
                "summaryMetrics": json.dumps(run.summary),
                "historyLineCount": len(run.history),
                "eventsLineCount": len(run.streams.get("wandb-events.jsonl", {})),
                "logLineCount": len(run.streams.get("output.log", {})),
                "historyTail": json.dumps(tail),
                "eventsTail": "[]",
                "config": json.dumps(run.raw_config),
                "tags": run.tags,
                "wandbConfig": '{"t": 1}',
            }
        return {"model": {**self._project(asked.get("project") or ""), "bucket": bucket}}

    def _on_UpsertBucket(self, request: Answer) -> Answer:
        name = request.get("name") or request.get("id")
        assert isinstance(name, str)
        inserted = name not in self.runs
        run = self.runs.setdefault(name, TrackedRun())
        run.project, run.name = (
            request.get("project") or run.project,
            request.get("displayName") or run.name,
        )
        run.group, run.tags = request.get("groupName") or run.group, request.get("tags") or run.tags
        run.entity, run.notes = request.get("entity") or run.entity, request.get("notes") or run.notes
        if request.get("config"):
            run.raw_config = json.loads(request["config"])
        bucket = {"id": name, "name": name, "displayName": run.name, "config": json.dumps(run.raw_config)}
        bucket |= {"sweepName": None, "project": self._project(run.project), "historyLineCount": len(run.history)}
        return {"upsertBucket": {"inserted": inserted, "bucket": bucket}}

    def _on_UpsertSweep(self, request: Answer) -> Answer:
        self.sweep = request["config"]
        sweep = {"name": "sweep1", "project": self._project(request.get("projectName") or "")}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _on_SweepWithRuns(self, _: Answer) -> Answer:
        runs: Answer = {"edges": []}
        return {"project": {"sweep": {"name": "sweep1", "config": self.sweep, "runs": runs}}}

    def _on_CreateAgent(self, _: Answer) -> Answer:
        return {"createAgent": {"agent": {"id": "A"}}}

    def _on_Heartbeat(self, request: Answer) -> Answer:
        commands: list[Answer] = []
        if "true" not in request["runState"]:  # nothing is running
            commands = [{"type": "exit"}]
            if self.sweep_runs:
                given = {name: {"value": value} for name, value in self.sweep_runs.pop(0).items()}
                number = len(self.sweep_runs)
                commands = [{"type": "run", "run_id": f"swept{number}", "program": "launch/local.sh", "args": given}]
        return {"agentHeartbeat": {"agent": {"id": "A"}, "commands": json.dumps(commands)}}

    def _on_RunStoppedStatus(self, _: Answer) -> Answer:
        return {"project": {"run": {"stopped": False}}}

    def _on_CreateRunFiles(self, request: Answer) -> Answer:
        run = request["run"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{run}/{name}"} for name in request["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _on_ArtifactType(self, _: Answer) -> Answer:
        return {"project": {"artifact": None}}

    def _on_CreateArtifact(self, request: Answer) -> Answer:
        given = request["input"]
        for number, known in enumerate(self.artifacts):
            if (known.digest, known.name) == (given.get("digest"), given.get("artifactCollectionName")):
                return {"createArtifact": {"artifact": self._artifact(number, "COMMITTED")}}
        artifact = Artifact(
            given.get("artifactCollectionName"),
            given.get("artifactTypeName"),
            given.get("digest"),
            json.loads(given.get("metadata") or "{}"),
            [alias["alias"] for alias in given.get("aliases") or []],
        )
        self.artifacts.append(artifact)
        if given.get("runName") in self.runs:
            self.runs[given["runName"]].artifacts.append(artifact)
        return {"createArtifact": {"artifact": self._artifact(len(self.artifacts) - 1, "PENDING")}}

    def _artifact(self, number: int, state: str) -> Answer:
        return {"id": str(number), "state": state, "artifactSequence": {"latestArtifact": None}}

    def _manifest(self, number: str) -> Answer:
        address = f"{self.url}/upload/artifact/{number}/manifest"
        return {"id": f"M{number}", "file": {"id": "F", "uploadUrl": address, "uploadHeaders": []}}

    def _on_CreateArtifactManifest(self, request: Answer) -> Answer:
        return {"createArtifactManifest": {"artifactManifest": self._manifest(request["artifactID"])}}

    def _on_UpdateArtifactManifest(self, request: Answer) -> Answer:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(request["artifactManifestID"][1:])}}

    def _on_CreateArtifactFiles(self, request: Answer) -> Answer:
        edges = []
        for file in request["input"]["artifactFiles"]:
            number, name = file["artifactID"], file["name"]
            address = f"{self.url}/upload/artifact/{number}/{name}"
            node = {"storagePath": name, "uploadUrl": address, "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": node | {"artifact": {"id": number}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, request: Answer) -> Answer:
        artifact = self.artifacts[int(request["artifactID"])]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": request["artifactID"], "digest": artifact.digest}}}


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that was killed
                if server.mood != "gone":
                    super().handle()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _reply(self) -> None:
            if server.mood == "gone":
                raise ConnectionAbortedError
            body = self._body()
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            code, content = server.answer(unquote(self.path.partition("?")[0]), body)
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_CONNECT = _reply

    return Handler


def core_of(parent: int) -> int:
    """The pid of the process that wandb started."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            continue
        if "wandb-core" in words[0] and words[2].split()[1] == str(parent):
            return int(pid)
    raise AssertionError("no wandb-core")
