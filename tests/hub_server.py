"""A hub of one's own: a real HTTP server that speaks the endpoints that kvlens uses of it.

Repositories are folders of files by commit, in memory. `create_repo`, `upload_folder`,
`hf_hub_download` and `snapshot_download` of huggingface_hub work with it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = r"(?P<repo>[^/]+/[^/]+)"


@dataclass
class Repo:
    """Files by commit, and the branches.

    Attributes:
        commits: commit -> path -> content.
        refs: branch or tag -> commit.
        private: as it was made.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Files on top of those of a branch."""
        before = self.commits.get(self.refs.get(branch, ""), {})
        content = {**before, **files}
        number = f"{len(self.commits)}{sorted(content.items())}"
        commit = hashlib.sha1(number.encode()).hexdigest()
        self.commits[commit] = content
        self.refs[branch] = commit
        return commit

    def at(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Hub:
    """The repositories, the requests that came, and where the server is."""

    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    def add(self, name: str, **files: bytes) -> str:
        """A repository with these files; their names have __ where a point is."""
        named = {path.replace("__", "."): content for path, content in files.items()}
        return self.repos.setdefault(name, Repo()).commit("main", named)


@contextlib.contextmanager
def serving():
    """A hub, for as long as the context lasts."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def route(self, verb):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{verb} {path}")
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and verb in method:
                return answer(self, body, **match.groupdict())
        return self.refuse(404, "", "no such endpoint")

    def send(self, content, code=200, kind="application/json", **headers):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer(self, value):
        self.send(json.dumps(value).encode())

    def refuse(self, status, code, message):
        body = json.dumps({"error": message}).encode()
        self.send(body, status, X_Error_Code=code, X_Error_Message=message)

    def found(self, repo, revision):
        """The repository and the commit, or None, and the refusal is sent."""
        if repo not in self.hub.repos:
            self.refuse(404, "RepoNotFound", "Repository not found")
            return None
        commit = self.hub.repos[repo].at(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return self.hub.repos[repo], commit

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        made = {"url": f"{self.hub.endpoint}/{name}"}
        if name in self.hub.repos:
            self.send(json.dumps(made).encode(), 409)
            return
        self.hub.repos[name] = Repo(private=asked.get("private", False))
        self.hub.repos[name].commit("main", {".gitattributes": b""})
        self.answer(made)

    def validate(self, body):
        self.answer({"errors": [], "warnings": []})

    def preupload(self, body, repo, revision):
        if self.found(repo, revision):
            files = json.loads(body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in files
            ]
            self.answer({"files": modes})

    def commit(self, body, repo, revision):
        there = self.found(repo, revision)
        if there is None:
            return
        lines = [json.loads(line) for line in body.splitlines() if line]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        commit = there[0].commit(revision, files)
        url = f"{self.hub.endpoint}/{repo}/commit/{commit}"
        self.answer({"commitUrl": url, "commitOid": commit, "success": True})

    def info(self, body, repo, revision="main"):
        there = self.found(repo, revision)
        if there:
            content, commit = there
            siblings = [{"rfilename": path} for path in content.commits[commit]]
            self.answer({"id": repo, "sha": commit, "siblings": siblings})

    def tree(self, body, repo, revision):
        there = self.found(repo, revision)
        if there:
            content, commit = there
            files = [
                {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
                for path, data in content.commits[commit].items()
            ]
            self.answer(files)

    def resolve(self, body, repo, revision, path):
        there = self.found(repo, revision)
        if there is None:
            return
        content, commit = there
        data = content.commits[commit].get(path)
        if data is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X_Repo_Commit": commit, "ETag": f'"{_etag(data)}"'}
        self.send(data, kind="application/octet-stream", **headers)


def _etag(data: bytes) -> str:
    """As git names a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


ROUTES = (
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("POST",), f"/api/models/{REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    (("POST",), f"/api/models/{REPO}/commit/(?P<revision>.+)", _Handler.commit),
    (("GET",), f"/api/models/{REPO}/tree/(?P<revision>.+)", _Handler.tree),
    (("GET",), f"/api/models/{REPO}/revision/(?P<revision>.+)", _Handler.info),
    (("GET",), f"/api/models/{REPO}", _Handler.info),
    (("GET", "HEAD"), f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
)
