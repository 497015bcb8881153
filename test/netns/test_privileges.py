"""What is left of root once a gateway runs, told by /proc, and files that somebody else could have written.

      gateway 192.0.2.1 --+--[ switch ]--+-- alice 192.0.2.2

Users are numbers that the machine need not know. `settled` says what every thread of a process must show.
"""

import contextlib
import grp
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from lab import NOBODY, wait_for
from programs import (EXECUTABLE, IN_USE, NOT_PERMITTED, OK, REPOSITORY, TOKENS, UNPRIVILEGED, WRONG_CONFIG, Client,
                      Gateway, penstock, token_record, unprivileged_gateway)

USER, OTHER_USER = 65500, 65501
NET_ADMIN, NOTHING = f"{1 << 12:016x}", f"{0:016x}"
ONLY_THE_UNITS_CAPABILITIES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+net_bind_service,"
                               "+setuid,+setgid,+setpcap,+chown"]
AMBIENT = "net_admin", "net_bind_service"
# Some machines leave the device to root.
WITH_DEVICE = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && "
               'exec "$@"', "sh"]
BY_SYSTEMD = [*WITH_DEVICE, "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
              *(f"--{kind}={sign}{',+'.join(AMBIENT)}" for kind, sign in
                [("inh-caps", "+"), ("ambient-caps", "+"), ("bounding-set", "-all,+")])]


def threads(program):
    """{thread: {field: value}} of /proc/PID/task/*/status."""
    found = {}
    for task in pathlib.Path(f"/proc/{program.process.pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found[task.name] = {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}
    return found


def settled(user=USER, capabilities=NET_ADMIN, bounding=NOTHING, seccomp="2", groups=None):
    fields = {"Uid": " ".join([str(user)] * 4), "Gid": " ".join([str(user)] * 4),
            "Groups": groups, "CapInh": NOTHING, "CapPrm": capabilities,
            "CapEff": capabilities, "CapBnd": bounding, "CapAmb": NOTHING, "NoNewPrivs": "1", "Seccomp": seccomp}
    if groups is None:
        fields["Groups"] = str(user)
    return fields


def assert_threads(program, least=1, **expected):
    """Every thread is as `settled` says."""
    found = threads(program)
    assert len(found) >= least
    wanted = settled(**expected)
    for thread, fields in found.items():
        assert {name: fields[name] for name in wanted} == wanted, f"thread {thread}"


def dropping(lab, certificates, user=USER, name="gateway", host=None, wrapper=(), **settings):
    """A gateway started by root that becomes `user`, with its socket in a directory that it makes."""
    host = host or lab.host("gateway")
    pair = certificates.issue(f"{lab.directory.name}-{name}", ["gateway.test", host.ipv4])
    gateway = Gateway(host, certificates, name, wrapper=wrapper, pair=pair, **settings)
    gateway.status_socket = lab.directory / "run" / f"{name}.sock"
    gateway.write_config(process={"user": f"{user}"}, status_socket=str(gateway.status_socket))
    return gateway


def let_read(path, group=USER):
    """As the documentation has it: root's, and readable to the gateway's group."""
    os.chown(path, 0, group)
    os.chmod(path, 0o640)


def owners(directory):
    return {path.stat().st_uid for path in [directory, *directory.iterdir()]}


# --- what is left ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [[], ONLY_THE_UNITS_CAPABILITIES], ids=["root", "root-as-in-the-unit"])
def test_started_by_root_it_runs_as_its_user_with_cap_net_admin_alone(lab, certificates, wrapper):
    gateway = dropping(lab, certificates, wrapper=wrapper, performance={"loops": 2}).start()
    alice = Client(lab.host("alice"), gateway).start()
    assert_threads(gateway, least=3)
    alice.host.wait_ping("10.100.0.1")
    assert gateway.status()["process"]["open_files"] > 5, "/proc/self is its own to read"
    wait_for(lambda: (gateway.state_dir / "sessions.json").exists(), 10, "sessions are saved")
    assert owners(gateway.state_dir) == {USER}
    assert gateway.state_dir.stat().st_mode & 0o777 == 0o700
    assert gateway.status_socket.stat().st_uid == USER

    assert gateway.stop() == OK
    assert gateway.host.interfaces() == {"lo", "eth0"}
    assert not gateway.status_socket.exists()


def test_a_tun_device_that_was_there_is_cleaned_up_after_the_drop(lab, certificates):
    gateway = dropping(lab, certificates)
    gateway.host.run("ip", "tuntap", "add", "dev", "tun0", "mode", "tun")
    gateway.start()
    assert gateway.host.addresses("tun0") == {"10.100.0.1"}
    assert gateway.stop() == OK
    assert gateway.host.addresses("tun0") == set()


def test_without_a_tun_device_no_capability_is_left(lab, certificates):
    gateway = dropping(lab, certificates, vpn={"tun": "off"}, performance={"loops": 2}).start()
    Client(lab.host("alice"), gateway).start()
    assert_threads(gateway, least=3, capabilities=NOTHING)
    assert gateway.stop() == OK


def test_an_ordinary_user_without_capabilities_serves_without_a_tun_device(lab, certificates):
    gateway = unprivileged_gateway(lab.host("gateway"), certificates, server={"listen_addr": ":8443"}).start()
    assert_threads(gateway, user=NOBODY, capabilities=NOTHING, groups="")
    assert gateway.stop() == OK


def test_what_systemd_gave_is_dropped_but_cap_net_admin(lab, certificates):
    """AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE with User=; the bounding set is systemd's business."""
    gateway = dropping(lab, certificates, wrapper=BY_SYSTEMD)
    for directory in (gateway.state_dir, gateway.status_socket.parent):
        directory.mkdir()
        os.chown(directory, USER, USER)
    let_read(gateway.settings["server"]["tls_key"])
    gateway.executable = gateway.directory / "penstock"
    shutil.copy(EXECUTABLE, gateway.executable)
    gateway.start()
    assert_threads(gateway, bounding=f"{(1 << 12) + (1 << 10):016x}", groups="")
    Client(lab.host("alice"), gateway).start().host.wait_ping("10.100.0.1")
    assert gateway.stop() == OK
    assert gateway.host.interfaces() == {"lo", "eth0"}


def test_without_the_default_user_it_stays_root_without_roots_power(lab, certificates):
    if subprocess.run(["id", "penstock"], capture_output=True, check=False).returncode == 0:
        pytest.skip("there is a user penstock here")
    gateway = Gateway(lab.host("gateway"), certificates).start()
    gateway.process.wait_for_log("level=warn.*there is no user to become.*user=penstock.*useradd --system")
    assert_threads(gateway, user=0, groups=" ".join(map(str, sorted(os.getgroups()))))
    mark = gateway.process.mark()
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("certificate reloaded", after=mark)
    assert not gateway.process.logged("not reloaded|not read again|reload will fail")


def test_a_named_user_that_is_not_there_is_refused(lab, certificates):
    code, log = dropping(lab, certificates, user="no-such-user").run_to_its_end()
    assert code == WRONG_CONFIG
    assert "process.user: there is no user no-such-user" in log and "useradd --system" in log


def test_the_filter_of_system_calls_can_be_switched_off(lab, certificates):
    gateway = dropping(lab, certificates).start()
    assert_threads(gateway)
    assert gateway.stop() == OK
    gateway.write_config(process={"seccomp": "off"})
    gateway.start()
    assert_threads(gateway, seccomp="0")


def test_a_port_that_is_taken_is_refused_before_anything_is_given_away(lab, certificates):
    first = dropping(lab, certificates).start()
    second = dropping(lab, certificates, host=first.host, name="second", vpn={"tun": "off"})
    code, _ = second.run_to_its_end()
    assert code == IN_USE
    assert not second.state_dir.exists()


def http_gateway(lab, certificates, group, **settings):
    """One that hands its plain-HTTP socket to `group`."""
    gateway = dropping(lab, certificates, server={"listen_addr": [], "listen_http": f"unix:{lab.directory}/run/http.sock",
                                                  "listen_http_group": group}, vpn={"tun": "off"}, **settings)
    gateway.http = lab.directory / "run/http.sock"
    gateway.http.parent.mkdir()
    os.chown(gateway.http.parent, USER, USER)
    return gateway


def knock(path, *identity):
    """Whether somebody may connect to the Unix socket `path`."""
    script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run(["setpriv", *identity, "/usr/bin/python3", "-c", script, path], capture_output=True, check=False)
    return done.returncode == 0


def test_the_http_socket_alone_is_for_the_web_servers_group(lab, certificates):
    web = grp.getgrnam("www-data").gr_gid
    gateway = http_gateway(lab, certificates, "www-data")
    gateway.config_path.chmod(0o600)
    gateway.start()
    file = gateway.http.stat()
    assert (file.st_uid, file.st_gid, file.st_mode & 0o7777) == (USER, web, 0o660)
    assert gateway.status_socket.stat().st_gid == USER
    assert re.search(f"reload will fail.*chgrp {USER} {gateway.config_path}", gateway.log())
    web_server = ["--reuid=65534", f"--regid={web}", "--clear-groups"]
    assert knock(gateway.http, *web_server) and not knock(gateway.status_socket, *web_server)
    assert not knock(gateway.http, "--reuid=65534", "--regid=65534", "--clear-groups")
    assert_threads(gateway, capabilities=NOTHING)
    assert gateway.stop() == OK
    assert not gateway.http.exists()


def test_an_http_group_that_is_not_there_is_refused(lab, certificates):
    gateway = http_gateway(lab, certificates, "no-such-group")
    code, log = gateway.run_to_its_end()
    assert code == WRONG_CONFIG and "server.listen_http_group: there is no group no-such-group" in log
    assert not gateway.state_dir.exists()
    checked = penstock("check-config", "--config", gateway.config_path)
    assert checked.returncode == OK
    assert "on this machine it would not start: server.listen_http_group: there is no group" in checked.stderr


@pytest.mark.parametrize("member", [True, False])
def test_a_user_gives_its_http_socket_to_a_group_that_it_is_in(lab, certificates, member):
    web = grp.getgrnam("www-data").gr_gid
    gateway = http_gateway(lab, certificates, "www-data")
    gateway.wrapper = ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={USER},{web}" if member else "--clear-groups",
                       "--bounding-set=-all", "--inh-caps=-all"]
    let_read(gateway.settings["server"]["tls_key"])
    gateway.executable = gateway.directory / "penstock"
    shutil.copy(EXECUTABLE, gateway.executable)
    gateway.state_dir.mkdir()
    os.chown(gateway.state_dir, USER, USER)
    if member:
        gateway.start()
        assert gateway.http.stat().st_gid == web and gateway.status_socket.stat().st_gid == USER
        assert gateway.stop() == OK
    else:
        code, log = gateway.run_to_its_end()
        assert code == NOT_PERMITTED, log
        assert "server.listen_http_group: user 65500 is not in group www-data" in log and "usermod -aG www-data" in log
        assert not gateway.http.exists()


def test_more_open_files_than_the_kernel_has_are_refused_and_checked(lab, certificates):
    most = int(pathlib.Path("/proc/sys/fs/nr_open").read_text(encoding="ascii"))
    if most >= 100_000_000:
        pytest.skip("this kernel allows as many as the configuration does")
    gateway = Gateway(lab.host("gateway"), certificates, limits={"open_files": most + 1})
    words = f"limits.open_files: the kernel allows a process {most} open files, not {most + 1} (sysctl fs.nr_open)"
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and words in log
    checked = penstock("check-config", "--config", gateway.config_path)
    assert checked.returncode == OK and f"on this machine it would not start: {words}" in checked.stderr


def test_the_limit_of_open_files_is_set_or_refused(lab, certificates):
    gateway = unprivileged_gateway(lab.host("gateway"), certificates,
                                   server={"listen_addr": ":8443"}, limits={"open_files": 300})
    gateway.wrapper = ["prlimit", "--nofile=1000:1000", *UNPRIVILEGED]
    gateway.start()
    assert re.search(r"Max open files +300 ", pathlib.Path(f"/proc/{gateway.process.pid}/limits").read_text())
    assert gateway.stop() == OK
    gateway.write_config(limits={"open_files": 5000})
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED
    assert "limits.open_files: the system allows 1000 open files, not 5000" in log


# --- reload after the drop ------------------------------------------------------------------------------------------


def enters(gateway, host, name):
    with contextlib.closing(gateway.plain_client(host)) as client:
        return client.login(TOKENS[name])["success"]


@pytest.mark.parametrize("told", [True, False], ids=["on-SIGHUP", "by-itself"])
def test_a_key_that_its_group_may_read_is_reloaded(lab, certificates, told):
    gateway = dropping(lab, certificates)
    let_read(gateway.settings["server"]["tls_key"])
    let_read(gateway.config_path)
    gateway.start()
    alice = lab.host("alice")
    assert not gateway.process.logged("reload will fail")
    assert not enters(gateway, alice, "carol")

    renewed = certificates.issue("renewed", ["gateway.test", gateway.host.ipv4])
    let_read(renewed.key)
    gateway.write_config(auth={"tokens": [token_record("alice"), token_record("carol")]})
    let_read(gateway.config_path)
    for new, path in [(renewed.key, gateway.settings["server"]["tls_key"]), (renewed.certificate, gateway.certificate)]:
        os.replace(new, path)
    if told:
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_for_log("tokens loaded.*tokens=2")
    gateway.process.wait_for_log("certificate reloaded", deadline=15)
    assert not gateway.process.logged("not reloaded|not read again")
    assert enters(gateway, alice, "carol") == told


def test_a_key_for_root_alone_serves_and_the_commands_in_the_warning_mend_the_reload(lab, certificates):
    gateway = dropping(lab, certificates)
    hidden = lab.directory / "keys"
    hidden.mkdir(mode=0o700)
    key = hidden / "server.key"
    shutil.copy(gateway.settings["server"]["tls_key"], key)
    key.chmod(0o600)
    gateway.config_path.chmod(0o600)
    gateway.write_config(server={"tls_key": str(key)})
    gateway.start()
    warnings = re.findall(r'reload will fail.*file=(\S+).*run="(.*?)"', gateway.log())
    assert [file for file, _ in warnings] == [str(gateway.config_path), str(key)]

    mark = gateway.process.mark()
    gateway.process.signal(signal.SIGHUP)
    lines = [gateway.process.wait_for_log("configuration not read again.*Permission denied.*", after=mark)[0],
             gateway.process.wait_for_log("certificate not reloaded, the old one stays.*", after=mark)[0]]
    assert [f'run="{commands}"' in line for line, (_, commands) in zip(lines, warnings)] == [True, True], lines
    for _, commands in warnings:
        subprocess.run(commands, shell=True, check=True)
    assert hidden.stat().st_mode & 0o777 == 0o710 and key.stat().st_mode & 0o777 == 0o640
    mark = gateway.process.mark()
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("certificate reloaded", after=mark)
    assert not gateway.process.logged("not read again|not reloaded", after=mark)


def test_a_key_that_was_renewed_for_root_alone_is_named_with_the_commands(lab, certificates):
    gateway = dropping(lab, certificates)
    let_read(gateway.settings["server"]["tls_key"])
    let_read(gateway.config_path)
    gateway.start()
    key = pathlib.Path(gateway.settings["server"]["tls_key"])
    os.chown(key, 0, 0)
    key.chmod(0o600)
    gateway.process.signal(signal.SIGHUP)
    line = gateway.process.wait_for_log("certificate not reloaded.*")[0]
    assert f'run="chgrp {USER} {key} && chmod g+r {key}"' in line
    assert gateway.process.logged("rules loaded")
    subprocess.run(re.search('run="(.*?)"', line)[1], shell=True, check=True)
    mark = gateway.process.mark()
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log("certificate reloaded", after=mark)


def test_a_reload_says_which_rules_are_in_force_now(lab, certificates):
    gateway = dropping(lab, certificates)
    for path in (gateway.settings["server"]["tls_key"], gateway.config_path):
        let_read(path)
    gateway.start()
    gateway.process.wait_for_log('msg="rules loaded" isolate=false allow=0 discovery=on exempt=0')
    gateway.write_config(lan={"isolate": True, "allow": [{"from": "alice", "to": "any"}], "discovery": "off"},
                         limits={"exempt": ["192.0.2.0/24", "198.51.100.7"]})
    let_read(gateway.config_path)
    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_for_log('msg="rules loaded" isolate=true allow=1 discovery=off exempt=2')


# --- state ----------------------------------------------------------------------------------------------------------


def test_a_second_start_as_another_user_finds_its_state(lab, certificates):
    gateway = dropping(lab, certificates).start()
    alice = Client(lab.host("alice"), gateway).start()
    wait_for(lambda: (gateway.state_dir / "sessions.json").exists(), 10, "sessions are saved")
    key = (gateway.state_dir / "lease.key").read_text()
    for user in (OTHER_USER, "root", USER):
        before = alice.status()
        assert gateway.stop() == OK
        gateway.write_config(process={"user": str(user)}, status_socket=str(lab.directory / f"run-{user}/gateway.sock"))
        gateway.status_socket = pathlib.Path(gateway.settings["status_socket"])
        gateway.start()
        after = alice.wait_reconnected(before)
        assert after["address"] == before["address"]
        assert after["reconnects"]["resumed"] == before["reconnects"]["resumed"] + 1
        assert (gateway.state_dir / "lease.key").read_text() == key
        assert owners(gateway.state_dir) == {0 if user == "root" else user}


def test_tokens_that_root_issues_are_the_gateways_to_read(lab, certificates):
    gateway = dropping(lab, certificates, server={"public_url": "wss://192.0.2.1/"})
    issued = lab.directory / "early.yaml"
    assert penstock("profile", "early", "--config", gateway.config_path, "--output", issued).returncode == OK
    assert owners(gateway.state_dir) == {USER}, "also before the first start"
    assert issued.stat().st_uid == 0
    gateway.start()
    assert penstock("profile", "late", "--config", gateway.config_path).returncode == OK
    gateway.process.wait_for_log("tokens loaded.*tokens=4")
    listed = penstock("token", "list", "--config", gateway.config_path).stdout
    assert "early  issued" in listed and "late  issued" in listed
    assert penstock("token", "revoke", "late", "--config", gateway.config_path).returncode == OK
    gateway.process.wait_for_log("tokens loaded.*tokens=3")
    assert owners(gateway.state_dir) == {USER}


def test_a_directory_of_other_files_is_not_given_away(lab, certificates):
    gateway = dropping(lab, certificates)
    gateway.state_dir.mkdir()
    (gateway.state_dir / "passwd").write_text("root")
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and "holds passwd, which is none of the gateway's files" in log
    assert gateway.state_dir.stat().st_uid == 0


def test_a_planted_link_is_refused(lab, certificates):
    gateway = dropping(lab, certificates).start()
    assert gateway.stop() == OK
    target = lab.directory / "shadow"
    target.write_text("secret")
    (gateway.state_dir / "tokens.json").symlink_to(target)
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and "tokens.json: is a link" in log
    assert target.stat().st_uid == 0


def test_a_place_that_the_user_cannot_reach_is_refused_with_the_commands(lab, certificates):
    gateway = dropping(lab, certificates)
    closed = lab.directory / "closed"
    closed.mkdir(mode=0o700)
    gateway.write_config(state_dir=str(closed / "state"))
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED
    assert f"may not write in {closed}/state; run: chgrp {USER} {closed} && chmod g+x {closed}" in log


# --- files of others ------------------------------------------------------------------------------------------------


def spoil(path, mode=None, owner=None):
    if mode is not None:
        path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)


@pytest.mark.parametrize("mode, owner, mended", [(0o666, None, "chmod go-w"), (0o664, 65501, "chown root"),
                                                 (0o644, 65501, "chown root")])
def test_a_configuration_that_others_can_change_is_refused_by_every_command(lab, certificates, mode, owner, mended):
    gateway = Gateway(lab.host("gateway"), certificates)
    client = Client(lab.host("alice"), gateway)
    for program in (gateway, client):
        spoil(program.config_path, mode, owner)
        wanted = f"run: {mended} {program.config_path}"
        code, log = program.run_to_its_end()
        assert code == NOT_PERMITTED and wanted in log and f"mode {mode:04o}" in log
        checked = penstock("check-config", "--config", program.config_path)
        assert checked.returncode == NOT_PERMITTED and wanted in checked.stderr
    for command in (["profile", "x"], ["token", "list"], ["token", "revoke", "x"]):
        done = penstock(*command, "--config", gateway.config_path)
        assert done.returncode == NOT_PERMITTED and f"run: {mended}" in done.stderr, command


def test_a_directory_that_others_can_change_is_refused(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates)
    directory = lab.directory / "etc"
    directory.mkdir()
    gateway.config_path = gateway.config_path.rename(directory / "server.json")
    directory.chmod(0o777)
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and f"its directory {directory} may be written to by everybody" in log
    directory.chmod(0o1777)
    gateway.start()


def test_keys_and_state_that_others_can_change_are_refused(lab, certificates):
    gateway = dropping(lab, certificates).start()
    assert gateway.stop() == OK
    state = {name: gateway.state_dir / name for name in ("lease.key", "sessions.json", "tokens.json")}
    state["tokens.json"].write_text('{"tokens": []}\n')
    state["sessions.json"].write_text('{"version": 1, "sessions": []}\n')
    for path in [*state.values(), pathlib.Path(gateway.settings["server"]["tls_key"])]:
        good = path.stat().st_mode & 0o777
        path.chmod(0o666)
        code, log = gateway.run_to_its_end()
        assert code == NOT_PERMITTED and f"run: chmod go-w {path}" in log, path
        path.chmod(good)
    checked = penstock("token", "list", "--config", gateway.config_path)
    assert checked.returncode == OK
    state["lease.key"].chmod(0o644)
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and "others may read it" in log


def test_a_strangers_state_directory_is_refused(lab, certificates):
    gateway = dropping(lab, certificates)
    common = lab.directory / "common"
    common.mkdir()
    common.chmod(0o1777)
    state = common / "state"
    state.mkdir(mode=0o700)
    os.chown(state, OTHER_USER, OTHER_USER)
    gateway.write_config(state_dir=str(state))
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED
    assert f"state_dir: {state} belongs to user {OTHER_USER}, who could have put keys and tokens there" in log
    assert state.stat().st_uid == OTHER_USER


def test_a_state_directory_that_everybody_can_change_is_refused(lab, certificates):
    gateway = dropping(lab, certificates)
    gateway.state_dir.mkdir()
    gateway.state_dir.chmod(0o777)
    code, log = gateway.run_to_its_end()
    assert code == NOT_PERMITTED and f"run: chmod go-w {gateway.state_dir}" in log


def test_a_private_key_that_everybody_can_read_is_a_warning(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates)
    key = pathlib.Path(gateway.settings["server"]["tls_key"])
    key.chmod(0o644)
    checked = penstock("check-config", "--config", gateway.config_path)
    assert checked.returncode == OK and f"run: chmod o= {key}" in checked.stderr
    gateway.start()
    gateway.process.wait_for_log(f"level=warn.*private key can be read by everybody.*chmod o= {key}")


def test_a_clients_configuration_that_everybody_can_read_is_a_warning(lab, certificates):
    gateway = Gateway(lab.host("gateway"), certificates).start()
    client = Client(lab.host("alice"), gateway)
    client.config_path.chmod(0o644)
    mended = f"run: chmod o= {client.config_path}"
    checked = penstock("check-config", "--config", client.config_path)
    assert checked.returncode == OK and mended in checked.stderr
    client.start()
    client.process.wait_for_log(f"level=warn.*holds the token.*chmod o= {client.config_path}")
    assert client.stop() == OK
    client.config_path.chmod(0o600)
    client.start()
    assert not client.process.logged("holds the token")
    assert mended not in penstock("check-config", "--config", client.config_path).stderr


# --- what is shipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["penstock-server", "penstock-client@"])
def test_systemd_finds_little_to_say_against_the_units(unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=30",
                           REPOSITORY / f"packaging/{unit}.service"], capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("a systemd-analyze without --offline")
    exposure = re.search(r"Overall exposure level.*: ([0-9.]+)", done.stdout)
    assert done.returncode == 0 and exposure and float(exposure[1]) <= 3.0, done.stdout + done.stderr


def test_make_run_by_root_runs_without_roots_power(lab):
    """What `make run` does after the build. The gateway becomes the owner of the checkout, or stays root without power."""
    host, run = lab.host("gateway"), lab.directory / "made"
    build = os.path.relpath(EXECUTABLE.parent, REPOSITORY)
    gateway = host.start("env", f"RUN_DIR={run}", f"BUILD={build}", REPOSITORY / "tools/run.sh", log_name="run")
    gateway.wait_for_log("gateway ready", deadline=20)
    assert gateway.logged(r"(?m)^    auth:\n      token: ") and gateway.logged("How another machine joins")

    class Running:
        process = gateway

    owner = REPOSITORY.stat()
    if owner.st_uid in (0, NOBODY):
        assert all(fields["CapEff"] == NET_ADMIN for fields in threads(Running).values())
    else:
        assert_threads(Running, user=owner.st_uid)
    mark = gateway.mark()
    gateway.signal(signal.SIGHUP)
    gateway.wait_for_log("certificate reloaded", after=mark)
    assert penstock("profile", "second", "--config", run / "server.yaml").returncode == OK
    gateway.wait_for_log("tokens loaded.*tokens=2", after=mark)
    assert gateway.stop() == OK
    assert not gateway.logged("not reloaded|not read again|reload will fail")
    assert not (run / "status/penstock.sock").exists()
