# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubelet of files: it watches a manifest directory and lets "containers" appear and end as the real ones do.

What it runs is written below a directory, so that a module in another process (which a test may kill) sees the same node.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]

MANIFEST = """# kept by hand: do not lose this comment
apiVersion: v1
kind: Pod
metadata:
  labels:
    component: %(name)s
    tier: control-plane
  name: %(name)s
  namespace: kube-system
spec:
  containers:
  - command: [%(name)s, %(flags)s]
    name: %(name)s
    image: "registry.k8s.io/%(name)s:v1.%(minor)d.2"
  hostNetwork: true
  terminationGracePeriodSeconds: %(grace)d
status: {}
"""


def free_port() -> int:
    """Give a port nobody listens on, and that no outgoing connection is given meanwhile (those begin at 32768)."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Node:
    """A throw-away node: manifests/, state/, node/ (what runs). minor: how its kubelet behaves. groups: with control groups."""

    def __init__(self, root: Path, minor: int = 20, groups: bool = True):
        self.root, self.minor = root, minor
        self.groups = root / "node" / "groups" if groups else None
        self.manifests = root / "kubernetes" / "manifests"
        self.state = root / "state"
        self.run, self.pods, self.logs = root / "node" / "run", root / "node" / "pods", root / "node" / "logs"
        for directory in (self.manifests, self.run, self.pods, self.logs):
            directory.mkdir(parents=True)
        if self.groups:
            self.groups.mkdir()
        self.ports: dict[str, int] = {}
        self.original: dict[str, bytes] = {}

    def add(self, name: str, grace: int = 5, text: str | None = None) -> Path:
        """Write a manifest whose component answers at a port of its own."""
        port = self.ports[name] = free_port()
        flags = {
            "etcd": "--listen-client-urls=http://127.0.0.1:%d, --listen-peer-urls=http://127.0.0.1:%d" % (port, free_port()),
            "kube-apiserver": "--secure-port=%d" % port,
        }.get(name, "--secure-port=0, --port=%d" % port)
        path = self.manifests / (name + ".yaml")
        data = (text or MANIFEST) % {"name": name, "flags": flags, "minor": self.minor, "grace": grace}
        path.write_text(data)
        path.chmod(0o600)
        self.original[name] = path.read_bytes()
        return path

    def containers(self) -> list[dict]:
        """What runs now."""
        found = []
        for path in self.run.glob("*.json"):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return found


class FakeKubelet(threading.Thread):
    """Watches a Node's manifests. stop_seconds: how long containers take to end; start_seconds: until they are healthy.

    housekeeping: seconds between passes; from 1.22 on, a pod of a name starts only when the one before it is finished, and one
    that was turned away is tried again after `requeue` seconds unless its UID changes. Same UID again: crash back-off.
    """

    def __init__(
        self,
        node: Node,
        stop_seconds=0.05,
        start_seconds=0.05,
        housekeeping=0.3,
        requeue=5.0,
        backoff=3.0,
        deaf=False,
        broken=(),
        pair=None,
    ):
        super().__init__(daemon=True)
        self.node, self.stop_seconds, self.start_seconds = node, stop_seconds, start_seconds
        self.housekeeping, self.requeue, self.backoff, self.deaf = housekeeping, requeue, backoff, deaf
        self.broken = set(broken)
        self.pair = pair
        self.wrong: list[str] = []  # what a real kubelet would have made a mess of
        self.events: list[tuple] = []  # (time, "stop"/"start"/"away", component)
        self.starts = 0
        self._pid = 1000
        self._live: dict[str, dict] = {}  # component -> container
        self._workers: dict[str, tuple] = {}  # component -> (uid, gone at): the old pod's worker, from 1.22 on
        self._finished: dict[str, str] = {}  # component -> uid: finished, and forgotten by the next housekeeping
        self._seen_uids: dict[str, float] = {}
        self._away: dict[str, float] = {}  # uid -> tried again at
        self._dirty: set[str] = set()
        self._servers: dict[str, object] = {}
        self._quit = threading.Event()
        self._ready = threading.Event()

    def __enter__(self):
        self.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *args):
        self._quit.set()
        self.join(5)
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def run(self):
        last = time.monotonic()
        while not self._quit.is_set():
            now = time.monotonic()
            if not self.deaf or not self._ready.is_set():
                self._relist(now)
            if now - last > self.housekeeping:
                last = now
                self._clean(now)
            if not self._ready.is_set() and len(self._live) == len(self.node.original):
                self._ready.set()
            time.sleep(0.004)

    def _wanted(self):
        """What the directory asks for: {name: uid}."""
        wanted = {}
        for path in sorted(self.node.manifests.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                data = path.read_bytes()
                document = yaml.safe_load(data)
                name = document["metadata"]["name"]
            except FileNotFoundError:
                continue
            except Exception as error:
                self.wrong.append("%s is not a manifest: %s" % (path.name, error))
                continue
            if name in wanted:
                self.wrong.append("%s is there twice" % name)
            if path.stem != name:
                self.wrong.append("%s lies beside the manifests" % path.name)
            wanted[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return wanted

    def _relist(self, now):
        wanted = self._wanted()
        for name, container in list(self._live.items()):
            if wanted.get(name) != container["uid"] and "ending" not in container:
                container["ending"] = now + self.stop_seconds
                self.events.append((now, "stop", name))
                self._stop_listening(name)
            if container.get("ending", now + 1) <= now:
                (self.node.run / ("%d.json" % container["pid"])).unlink()
                del self._live[name]
                self._workers[name] = (container["uid"], now)
        for name, (uid, gone) in list(self._workers.items()):
            # A pod that is wanted again under the same UID is synced to its end; others are by housekeeping.
            if wanted.get(name) == uid and now - gone > 0.1:
                self._finish(name)
        for name, uid in wanted.items():
            if name not in self._live:
                self._try(name, uid, now)

    def _finish(self, name):
        uid, _gone = self._workers.pop(name)
        self._finished[name] = uid
        if self.node.groups:
            (self.node.groups / uid).rmdir()

    def _try(self, name, uid, now):
        if self.node.minor >= 22 and name in self._workers:
            if uid not in self._away and uid != self._workers[name][0]:
                self._away[uid] = now + self.requeue
                self.events.append((now, "away", name))
            return
        if self._away.get(uid, now) > now or (self.node.minor >= 22 and self._finished.get(name) == uid):
            return
        if uid in self._seen_uids and now - self._seen_uids[uid] < self.backoff:
            return
        self._away.pop(uid, None)
        self._seen_uids[uid] = now
        self._pid += 1
        self.starts += 1
        container = {
            "uid": uid,
            "container": name,
            "pid": self._pid,
            "started": now,
            "id": hashlib.sha256(b"%d" % self._pid).hexdigest(),
        }
        if self.node.groups:
            (self.node.groups / uid).mkdir(exist_ok=True)
        (self.node.pods / uid).mkdir(exist_ok=True)
        (self.node.logs / ("kube-system_%s-%s_%s" % (name, "node", uid))).mkdir(exist_ok=True)
        temporary = self.node.run / (".%d" % self._pid)
        temporary.write_text(json.dumps(container))
        temporary.rename(self.node.run / ("%d.json" % self._pid))
        self._live[name] = container
        self.events.append((now, "start", name))
        if name not in self.broken:
            self._listen(name, container)

    def _clean(self, now):
        self._finished.clear()
        for name, (uid, _gone) in list(self._workers.items()):
            shutil.rmtree(self.node.pods / uid, ignore_errors=True)
            if self.node.minor < 22:
                del self._workers[name]
            elif name in self._dirty:
                self._dirty.discard(name)
                self._finish(name)
            else:
                self._dirty.add(name)  # the directory goes one pass before the worker is finished

    def _listen(self, name, container):
        healthy_at = time.monotonic() + self.start_seconds

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if time.monotonic() >= healthy_at else 500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        server = Quiet(("127.0.0.1", self.node.ports[name]), Handler)
        server.daemon_threads = True
        if name == "kube-apiserver" and self.pair:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.pair)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        self._servers[name] = server

    def _stop_listening(self, name):
        server = self._servers.pop(name, None)
        if server is not None:
            server.shutdown()
            server.server_close()


KILLER = """
import json, os, signal, sys
sys.path[:0] = [%(root)r + "/tests/unit"]
import conftest
from tests.unit.support.fakekubelet import FakeRuntime, Node
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart
root, names, point, minor = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4])
count = 0
def hook(event, args):
    global count
    if event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "open"):
        return
    flags = args[2] if event == "open" and isinstance(args[2], int) else 0
    if event == "open" and (not flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY) or flags & os.O_PATH):
        return
    # What is relative is so to a directory's descriptor: a step of files.py.
    if os.path.isabs(str(args[0])) and (not str(args[0]).startswith(root) or "/node/" in str(args[0])):
        return
    count += 1
    if count == point:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
runtime = FakeRuntime(root, minor)
result = pod_restart.restart_pods(names, root + "/kubernetes/manifests", root + "/state", timeout=20, runtime=runtime)
print(json.dumps(result))
""" % {"root": str(ROOT)}


class FakeRuntime:
    """What runtime.Runtime gives, from a Node's files."""

    def __init__(self, root, minor=20, age=3600.0, running=True):
        self.node_dir = Path(root) / "node"
        self.minor, self.kubelet_age, self.running = minor, age, running
        self.removed = []
        self.readiness = None

    @staticmethod
    def _runtime():
        from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import containers

        return containers

    def kubelet(self):
        """The kubelet, if it "runs"."""
        if not self.running:
            from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError

            raise PkiError("kubelet.service is inactive (dead)", fix="See `systemctl status kubelet`.")
        return self._runtime().Kubelet(1, self.kubelet_age, lambda: self.minor)

    def manages_pods(self, kubelet):
        """Never by itself: tests give it an age."""
        return False

    def _all(self):
        found = []
        for path in (self.node_dir / "run").glob("*.json"):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return found

    def instances(self, manifest):
        """The containers of a pod."""
        from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import container_processes

        return [
            container_processes.Instance(item["uid"], item["container"], item["pid"], item["started"], item["id"])
            for item in self._all()
            if item["container"] == manifest.component
        ]

    def alive(self, instance):
        """Whether it still runs."""
        return (self.node_dir / "run" / ("%d.json" % instance.pid)).exists()

    def age(self, instance):
        """Old enough."""
        return 3600.0

    def lost_files(self, instance):
        """None of its mounts."""
        return set()

    def ready(self, uid):
        """The kubelet cannot be asked, unless a test says what it answers: called with the seconds since the pod began."""
        began = next((item["started"] for item in self._all() if item["uid"] == uid), None)
        return self.readiness(time.monotonic() - began) if self.readiness and began else None

    def mirror_hash(self, manifest, apiserver, kubernetes_dir):
        """There is no API."""

    def uids(self, manifest):
        """From the log directories."""
        prefix = "%s_%s-" % (manifest.namespace, manifest.name)
        return {name.rsplit("_", 1)[1] for name in os.listdir(self.node_dir / "logs") if name.startswith(prefix)}

    def traces(self, instances):
        """The pods' directories and control groups."""
        return set(os.listdir(self.node_dir / "pods")) | self.groups(instances)

    def groups(self, instances):
        """The pods' control groups, where the node has any."""
        return set(os.listdir(self.node_dir / "groups")) if (self.node_dir / "groups").is_dir() else set()

    def remove_sandboxes(self, uid):
        """No crictl here."""
        return False

    def container_status(self, manifest):
        """Nobody can tell."""
        return ""


if __name__ == "__main__":
    sys.exit("a helper for tests")


def served_node(tmp_path):
    """A node whose apiserver serves a certificate from a file: gives (node, new(), path of the certificate)."""
    # As in FakeRuntime: this file is imported before the path of the collection is set.
    from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_sign

    node = Node(tmp_path, 20)
    ca_key = private_keys.generate_key("ecdsa-p256")
    ca = ca_sign.build_ca("kubernetes", ca_key, 10)

    def new():
        key = private_keys.generate_key("ecdsa-p256")
        leaf = x509_sign.sign_leaf(x509_sign.Profile("kube-apiserver", extended_usages=("server",)), key, ca, ca_key, 5)
        (tmp_path / "apiserver.crt").write_bytes(leaf.pem)
        (tmp_path / "apiserver.key").write_bytes(key.pem)

    new()
    path = node.add("kube-apiserver")
    text = path.read_text().replace("--secure-port", "--tls-cert-file=%s/apiserver.crt, --secure-port" % tmp_path)
    path.write_text(text)
    node.original["kube-apiserver"] = text.encode()
    return node, new, (str(tmp_path / "apiserver.crt"), str(tmp_path / "apiserver.key"))
