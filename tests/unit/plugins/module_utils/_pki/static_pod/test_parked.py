# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery of manifests that a killed run left out."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import (
    parked,
    pod_restart,
)

from tests.unit.support import faults
from tests.unit.support.fakekubelet import Node
from tests.unit.support.restarting import assert_whole, stripped


def test_check_finds_what_a_killed_run_left_out(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    copy = node.state / "parked" / "kube-scheduler.yaml.x"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    journal = journals.Journal("static-pods", str(node.state))
    entry = {
        "name": "kube-scheduler",
        "path": str(path),
        "parked": str(copy),
        "sha256": atomic.sha256(path.read_bytes()),
        "mode": 0o600,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "token": "x",
    }
    journal.save({"pods": [entry]})
    assert parked.pending(str(node.state)) == []
    path.unlink()
    assert parked.pending(str(node.state)) == [str(path)]
    copy.write_bytes(b"something else")
    with pytest.raises(PkiError) as error:
        parked.recover(str(node.state))
    assert "checksum" in str(error.value) and not path.exists()
    copy.write_bytes(node.original["kube-scheduler"])
    assert [item["action"] for item in parked.recover(str(node.state))] == ["restored"]
    assert_whole(node)


def test_recovery_leaves_a_manifest_that_somebody_wrote_since(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    copy = node.state / "parked" / "x"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    journals.Journal("static-pods", str(node.state)).save(
        {
            "pods": [
                {
                    "name": "kube-scheduler",
                    "path": str(path),
                    "parked": str(copy),
                    "sha256": atomic.sha256(path.read_bytes()),
                    "mode": 0o600,
                    "uid": 0,
                    "gid": 0,
                    "token": "x",
                }
            ]
        }
    )
    path.write_text("# written by an upgrade\n" + path.read_text())
    assert [item["action"] for item in parked.recover(str(node.state))] == ["kept"]
    assert path.read_text().startswith("# written by an upgrade")


class TestRecoveryFaults:
    """A disk that is full, read-only or broken, at every system call of a recovery."""

    NUMBERS = (errno.ENOSPC, errno.EROFS, errno.EIO)

    @pytest.fixture(params=["renamed", "as-0.1.0"])
    def out(self, request, tmp_path):
        """A node whose run was killed with two manifests out. Version 0.1.0 had only the copies in the state directory."""
        node = Node(tmp_path)

        def kill():
            shutil.rmtree(node.state, ignore_errors=True)
            entries = []
            for name in ("kube-scheduler", "kube-controller-manager"):
                path = node.add(name)
                atomic.make_directory(str(node.state / "parked"))
                copy = node.state / "parked" / (name + ".x")
                copy.write_bytes(path.read_bytes())
                entries.append(
                    {
                        "name": name,
                        "path": str(path),
                        "parked": str(copy),
                        "sha256": atomic.sha256(path.read_bytes()),
                        "mode": 0o600,
                        "uid": os.getuid(),
                        "gid": os.getgid(),
                        "token": "ab12",
                    }
                )
                if request.param == "renamed":
                    path.rename(path.with_name(".%s.kubepki-ab12-out" % path.name))
                    path.with_name(".%s.kubepki-ab12" % path.name).write_text("staged: true")
                else:
                    path.unlink()
                    path.with_name(".%s.kubepki-ab12" % path.name).write_text("half a manif")
            journals.Journal("static-pods", str(node.state)).save({"pods": entries})

        node.kill, node.renames = kill, request.param == "renamed"
        kill()
        return node

    def test_of_a_recovery_by_a_kill(self, out):
        for point in range(1, 200):
            out.kill()
            if not faults.kill_at(point, lambda: parked.recover(str(out.state))):
                break
            parked.recover(str(out.state))
            assert_whole(out)
            assert parked.recover(str(out.state)) == []
        assert 15 < point < 199

    @pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
    @pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
    def test_of_a_recovery(self, out, number, lasting):
        for point in range(1, 200):
            out.kill()
            reached, error = faults.fail_at(point, lambda: parked.recover(str(out.state)), number, lasting)
            if not reached:
                break
            assert error is None or isinstance(error, PkiError), error
            if out.renames and lasting and number == errno.ENOSPC:
                assert len(list(out.manifests.glob("*.yaml"))) == 2, "point %d: a full disk keeps nothing out" % point
            parked.recover(str(out.state))
            assert_whole(out)
        assert 15 < point < 199

    @pytest.mark.parametrize(
        "damage",
        [
            lambda entry: entry.pop("token"),
            lambda entry: entry.update(path=7),
            lambda entry: entry.update(sha256="0" * 64),
            lambda entry: os.unlink(entry["parked"]),
        ],
    )
    def test_of_one_entry_of_the_journal(self, out, damage):
        """The others are restored all the same, and are not looked at again."""
        journal = journals.Journal("static-pods", str(out.state))
        record = journal.load()
        if out.renames:
            (out.manifests / ".kube-scheduler.yaml.kubepki-ab12-out").unlink()
        damage(record["pods"][0])
        journal.save(record)
        with pytest.raises(PkiError) as error:
            parked.recover(str(out.state))
        other = out.manifests / "kube-controller-manager.yaml"
        assert stripped(other.read_bytes()) == stripped(out.original["kube-controller-manager"])
        assert "put back: %s" % other in str(error.value)
        assert journal.load() == {"pods": record["pods"][:1]} and (out.state / "parked").exists()
        certificate = out.root / "a.crt"
        certificate.with_name("staged").write_bytes(b"new")
        journals.Journal("leaves", str(out.state)).save(
            {
                "state": "commit",
                "entries": [
                    {
                        "path": str(certificate),
                        "staged": str(certificate.with_name("staged")),
                        "old": "absent",
                        "new": "sha256:" + atomic.sha256(b"new"),
                    }
                ],
            }
        )
        with pytest.raises(PkiError):
            pod_restart.restore(str(out.state))
        assert certificate.read_bytes() == b"new"
        journal.save({"pods": "none"})
        with pytest.raises(PkiError, match="the journal of static pods is damaged"):
            parked.recover(str(out.state))
        assert parked.pending(str(out.state)) == []
