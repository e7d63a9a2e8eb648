//! What an emulated step sees: programs that look at themselves, local sockets, descriptors of all
//! kinds, users that are kept apart. Each check is a Python script in a step, run by an ordinary user.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::coracle::Who;
use crate::support::requirement::require;
use crate::support::stand_in;

/// What the scripts begin with.
const START: &str = "import ctypes, errno, os, signal, socket, stat, subprocess, sys, threading\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def fails(with_, call, *arguments, **named):\n\
    \x20   try: call(*arguments, **named)\n\
    \x20   except OSError as error: assert error.errno == with_, error\n\
    \x20   else: assert False, 'it did not fail'\n\
    def sh(command): return subprocess.check_output(command, shell=True, universal_newlines=True)\n";

/// Builds an image with a step that runs `script`, after the lines `before`.
fn check(before: &str, script: &str) {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let coracle = require!(Coracle::run_by(Who::Single));
    let context = Scratch::new();
    context.write("check.py", format!("{START}{script}"));
    context.write("secret", "s");
    let dockerfile = format!(
        "FROM python:3.6-slim\nCOPY check.py /\n{before}\n\
         RUN --mount=type=cache,target=/cache --mount=type=bind,target=/ro python3 /check.py\n"
    );
    context.write("Dockerfile", dockerfile);
    let mirror = registry.as_docker_hub();
    let options = ["--isolation", "emulate", "--no-cache"];
    coracle.build(context.path(), &mirror, &options);
    coracle.assert_nothing_left();
}

#[test]
fn programs_find_themselves_and_their_arguments() {
    check(
        "RUN printf '#!/usr/bin/env python3\\nimport sys\\nprint(sys.argv)\\n' > /one && \
         printf '#!/one -x\\n' > /two && echo text > /text && chmod 755 /one /two /text && ln -s /bin/sh /bin/another",
        r"
assert os.readlink('/proc/self/exe') == os.path.realpath(sys.executable)
assert open('/proc/self/cmdline', 'rb').read() == b'python3\0/check.py\0'
assert sh('/one a').strip() == str(['/one', 'a'])
assert sh('/two a b').strip() == str(['/one', '-x', '/two', 'a', 'b'])
assert sh('cd /; ./two').strip() == str(['/one', '-x', './two'])
many = ['x' * 100] * 2000
assert subprocess.check_output(['/one'] + many).count(b'x' * 100) == 2000
assert sh('cat /proc/self/comm; another -c \'cat /proc/$$/comm; :\'').split() == ['cat', 'another']
assert open('/proc/self/maps').read().find('/usr/lib/') > 0
assert '/programs-' not in open('/proc/self/maps').read()
fd = os.open('/bin/echo', os.O_RDONLY)
pid = os.fork()
if pid == 0: os.execve(fd, ['echo', 'by descriptor'], {})
assert os.waitpid(pid, 0)[1] == 0
fails(errno.ENOENT, os.execv, '/nowhere', ['x'])
fails(errno.EACCES, os.execv, '/etc/passwd', ['x'])
fails(errno.ENOEXEC, os.execv, '/text', ['x'])
",
    );
}

#[test]
fn local_sockets_have_names_in_the_image() {
    check(
        "",
        r"
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    for name in ('/tmp/a-socket', '\0abstract'):
        server = socket.socket(socket.AF_UNIX, kind); server.bind(name); server.listen(1)
        def serve():
            peer, _ = server.accept(); peer.send(b'hello'); peer.close()
        thread = threading.Thread(target=serve); thread.start()
        client = socket.socket(socket.AF_UNIX, kind); client.connect(name)
        assert client.recv(9) == b'hello' and client.recv(9) == b''
        thread.join()
        told = server.getsockname(); told = told.decode() if isinstance(told, bytes) else told
        assert told == name, told
        again = socket.socket(socket.AF_UNIX, kind)
        fails(errno.EADDRINUSE, again.bind, name)
        server.close()
    assert stat.S_ISSOCK(os.stat('/tmp/a-socket').st_mode)
    fails(errno.ECONNREFUSED, socket.socket(socket.AF_UNIX, kind).connect, '/tmp/a-socket')
    fails(errno.ENOENT, socket.socket(socket.AF_UNIX, kind).connect, '/run/dbus/system_bus_socket')
    os.unlink('/tmp/a-socket')
fails(errno.EPROTONOSUPPORT, socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM)
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.send(b'x'); one.send(b'y')
assert other.recv(9) == b'x' and other.recv(9) == b'y'
",
    );
}

#[test]
fn files_are_reached_by_descriptors_of_all_kinds() {
    check(
        "",
        r"
os.mkfifo('/tmp/pipe'); os.chown('/tmp/pipe', 3, 4); os.symlink('nowhere', '/tmp/link')
fd = os.open('/tmp/pipe', os.O_PATH)
assert os.fstat(fd).st_uid == 3 and stat.S_ISFIFO(os.fstat(fd).st_mode)
os.chmod('/proc/self/fd/%d' % fd, 0o640)
assert os.stat('/tmp/pipe').st_mode & 0o7777 == 0o640
fd = os.open('/tmp/link', os.O_PATH | os.O_NOFOLLOW)
assert stat.S_ISLNK(os.fstat(fd).st_mode) and os.readlink('', dir_fd=fd) == 'nowhere'
os.chown('/tmp/link', 7, 8, follow_symlinks=False)
assert os.lstat('/tmp/link').st_gid == 8
directory = os.open('/etc', os.O_PATH)
assert os.stat('passwd', dir_fd=directory).st_size > 0
os.fchdir(directory); assert os.getcwd() == '/etc'; os.chdir('/')
fd = os.open('/tmp', os.O_TMPFILE | os.O_RDWR); os.write(fd, b'text')
assert libc.linkat(-100, b'/proc/self/fd/%d' % fd, -100, b'/tmp/named', 0x400) == 0
assert open('/tmp/named').read() == 'text'
capability = bytes.fromhex('0100000200200000000000000000000000000000')
os.setxattr('/tmp/named', 'security.capability', capability)
assert os.getxattr('/tmp/named', 'security.capability') == capability
fails(errno.EPERM, os.setxattr, '/tmp/named', 'user.coracle.stat', b'0:0:777')
os.chown('/tmp/named', 5, 6)
assert os.listxattr('/tmp/named') == ['security.capability']
os.mknod('/tmp/device', stat.S_IFBLK | 0o600, os.makedev(8, 1))
assert os.stat('/tmp/device').st_rdev == os.makedev(8, 1)
fails(errno.EPERM, os.open, '/tmp/device', os.O_RDONLY)
fails(errno.EROFS, open, '/etc/hosts', 'w')
fails(errno.EROFS, os.chmod, '/etc/hosts', 0o777)
fails(errno.EROFS, os.open, '/proc/self/fd/%d' % os.open('/etc/hosts', 0), os.O_RDWR)
fails(errno.EXDEV, os.link, '/etc/hosts', '/tmp/hosts')
fails(errno.EROFS, open, '/ro/new', 'w')
fails(errno.EBUSY, os.rename, '/cache', '/elsewhere')
fails(errno.EBUSY, os.rmdir, '/proc')
null = os.open('/dev/null', os.O_RDWR)
assert os.fstat(null).st_ino == os.stat('/dev/null').st_ino
",
    );
}

#[test]
fn a_path_leads_where_it_leads_now() {
    check(
        "RUN ln -s /proc/self/cwd /here && ln -s /proc/self/fd /numbers && mkdir /one /two && \
         echo 1 > /one/name && echo 22 > /two/name",
        r"
def size(path): return os.stat(path).st_size
for directory, expected in (('/one', 2), ('/two', 3), ('/one', 2)):
    os.chdir(directory)
    for path in ('/here/name', '/proc/self/cwd/name'): assert size(path) == expected
    fd = os.open('name', os.O_RDONLY)
    for path in ('/numbers/%d', '/proc/self/fd/%d', '/dev/fd/%d'): assert size(path % fd) == expected
    os.close(fd)
    os.chdir('/tmp'); fails(errno.ENOENT, size, '/here/name')
fails(errno.ENOENT, size, '/tmp/new')
with open('/tmp/new', 'w') as new:
    assert size('/tmp/new') == 0
    new.write('more'); new.flush()
    assert size('/tmp/new') == 4
os.chmod('/tmp/new', 0o600); os.chown('/tmp/new', 7, 8)
seen = os.stat('/tmp/new'); assert (seen.st_mode & 0o777, seen.st_uid, seen.st_gid) == (0o600, 7, 8)
os.rename('/tmp/new', '/tmp/newer'); fails(errno.ENOENT, size, '/tmp/new')
os.symlink('newer', '/tmp/new'); assert size('/tmp/new') == 4
os.unlink('/tmp/new'); os.symlink('/one/name', '/tmp/new'); assert size('/tmp/new') == 2
os.rename('/one', '/three'); fails(errno.ENOENT, size, '/tmp/new')
os.rename('/two', '/one'); assert size('/tmp/new') == 3
sh('rm -r /three /one'); fails(errno.ENOENT, size, '/tmp/new')
",
    );
}

#[test]
fn signals_interrupt_no_call_that_would_not_wait() {
    check(
        "",
        r"
count = []
signal.signal(signal.SIGALRM, lambda *_: count.append(1))
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(3000):
    fd = libc.open(b'/etc/passwd', 0)
    assert fd >= 0, errno.errorcode[ctypes.get_errno()]
    libc.close(fd)
signal.setitimer(signal.ITIMER_REAL, 0)
assert count
",
    );
}

#[test]
fn users_are_kept_apart() {
    check(
        "RUN useradd --create-home bob && cp /usr/bin/id /usr/local/bin/suid-id && \
         chmod 4755 /usr/local/bin/suid-id && install -m 600 /dev/null /root/private && \
         mkdir -m 1777 /shared && touch /shared/roots && chmod 666 /shared/roots",
        r"
assert 'uid=1000(bob)' in sh('su bob -c id') or 'bob' in sh('su bob -c id')
assert 'euid=0(root)' in sh('su bob -c suid-id')
as_bob = lambda command: subprocess.call(['su', 'bob', '-c', command], stderr=subprocess.DEVNULL)
assert as_bob('cat /root/private') != 0
assert as_bob('ls /root') != 0
assert as_bob('rm -f /shared/roots') != 0
assert as_bob('echo x >> /shared/roots') == 0
assert as_bob('chown bob /shared/roots') != 0
assert as_bob('chmod 777 /shared/roots') != 0
assert as_bob('touch /shared/mine && rm /shared/mine') == 0
assert as_bob('kill -9 %d' % os.getpid()) != 0
assert as_bob('cat /proc/%d/environ' % os.getpid()) != 0
assert sh('su bob -c \'umask 027; touch ~/f; stat -c %a:%U ~/f\'').strip() == '640:bob'
assert as_bob('mknod ~/d c 1 3') != 0
pid = os.fork()
if pid == 0:
    os.setgroups([]); os.setresgid(33, 33, 33); os.setresuid(33, 33, 33)
    fails(errno.EPERM, os.setuid, 0)
    assert 'CapEff:\t0000000000000000' in open('/proc/self/status').read()
    assert '\t33\t33\t33\t33' in open('/proc/self/status').read()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
",
    );
}

#[test]
fn only_the_steps_own_processes_are_there() {
    check(
        "",
        r"
numbers = [int(name) for name in os.listdir('/proc') if name.isdigit()]
assert os.getpid() in numbers and 1 not in numbers, numbers
parents = {os.getppid()} - set(numbers)
for pid in [1, *parents]:
    for name in ('environ', 'mem', 'maps', 'root', 'cwd', 'fd', 'status'):
        assert not os.path.lexists('/proc/%d/%s' % (pid, name)), name
    fails(errno.ESRCH, os.kill, pid, 0)
for name in ('mem', 'pagemap', 'map_files', 'syscall', 'stack'):
    assert not os.path.lexists('/proc/self/' + name), name
for name in ('kcore', 'keys', 'sysrq-trigger', 'kallsyms', 'kmsg'):
    assert not os.path.lexists('/proc/' + name), name
inside = os.open('/proc/self', os.O_RDONLY)
fails(errno.ENOENT, os.open, '../1/environ', os.O_RDONLY, dir_fd=inside)
os.chdir('/proc/self/fd')
assert os.getcwd() == '/proc/%d/fd' % os.getpid()
fails(errno.ENOENT, open, '../../1/environ')
fails(errno.EACCES, open, '/proc/sys/kernel/panic', 'w')
os.chdir('/')
assert os.path.realpath('/proc/self/root/../..') == '/'
assert 'TracerPid:\t0' in open('/proc/self/status').read()
children = sh('find / -xdev > /dev/null; ls -lR /proc/self > /dev/null; ps -e 2>/dev/null || true')
",
    );
}
