/* What a hostile step tries, one attempt for each name. Prints ESCAPED and a reason if it got through, and
 * "attempted" at its end. Built and run by tests/integration/hostile.rs.
 *
 *   hostile NAME [PATH]      PATH is a file outside, as the builder calls it
 *
 * Where the attempts succeed they do harm, so this does nothing at all unless its root directory is that of the image
 * made for it. Never take that guard out, and never run it by hand.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void escaped(const char *how, const char *what) {
    printf("ESCAPED: %s %s (uid %d)\n", how, what, getuid());
    fflush(stdout);
}

/* Opens PATH from wherever we are by now, and says so if it can be read or written. */
static void look(const char *how, const char *path) {
    char buffer[256];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, buffer, sizeof buffer) > 0) escaped(how, "read");
    if (file >= 0) close(file);
    file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file >= 0 && write(file, "touched", 7) == 7) escaped(how, "wrote");
    if (file >= 0) close(file);
}

/* Processes that are not ours: near our own number, and the first ones. */
static int is_ours(pid_t pid) { return pid == getpid() || pid == getppid() || pid == getpgrp(); }
static void each_other(void (*act)(pid_t)) {
    for (pid_t pid = 1; pid < 64; pid++) if (!is_ours(pid)) act(pid);
    for (pid_t pid = getpid() > 600 ? getpid() - 600 : 64; pid < getpid(); pid++) if (!is_ours(pid)) act(pid);
}
/* Whether it is a shell that the step itself has started. */
static int is_of_step(pid_t pid) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int file = open(path, O_RDONLY);
    if (file < 0) return 0;
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    for (ssize_t i = 0; i < count; i++) if (!text[i]) text[i] = ' ';
    return strstr(text, "hostile") != NULL;
}

static void break_chroot(const char *path) {
    int top = open(".", O_RDONLY | O_DIRECTORY);
    mkdir("/jail", 0755);
    if (chroot("/jail") == 0) {
        fchdir(top);
        for (int i = 0; i < 64; i++) if (chdir("..") != 0) break;
        chroot(".");
    }
    look("chroot", path);
    if (*path == '/') look("chroot", path + 1);
}

static void by_handle(const char *path) {
    struct { struct file_handle handle; unsigned char bytes[128]; } it;
    int mount_id, here = open("/", O_RDONLY | O_DIRECTORY);
    (void)path;
    for (unsigned inode = 2; inode < 16; inode++) {  /* ext4's root is 2 */
        it.handle.handle_bytes = 8;
        it.handle.handle_type = 1;
        memcpy(it.handle.f_handle, &inode, 4);
        memset(it.handle.f_handle + 4, 0, 4);
        int file = open_by_handle_at(here, &it.handle, O_RDONLY | O_DIRECTORY);
        if (file >= 0) { escaped("open_by_handle_at", "inode"); close(file); }
    }
    it.handle.handle_bytes = 128;
    if (name_to_handle_at(here, ".", &it.handle, &mount_id, 0) == 0 &&
        open_by_handle_at(here, &it.handle, O_RDONLY) >= 0) escaped("open_by_handle_at", "root");
}

static void attach(pid_t pid) {
    if (is_of_step(pid)) return;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        escaped("ptrace", "seized a process that is not the step's");
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)0x400000, 1};
    if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1) escaped("process_vm_readv", "read");
    else if (errno == EFAULT) escaped("process_vm_readv", "was allowed");
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int file = open(path, O_RDWR);
    if (file >= 0) { escaped(path, "opened"); close(file); }
}

static void read_about(pid_t pid) {
    static const char *names[] = {"environ", "maps", "root/etc/passwd", "cwd/.", "fd/0", "exe", "auxv", "stack"};
    if (is_of_step(pid)) return;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[96], byte;
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        int file = open(path, O_RDONLY | O_NONBLOCK);
        if (file < 0) continue;
        if (!strcmp(names[i], "cwd/.") || read(file, &byte, 1) == 1) escaped(path, "read");
        close(file);
    }
}

static void shoot(pid_t pid) {
    if (is_of_step(pid)) return;
    /* The first process inside is ours to annoy, but not to end: the builder sees whether it lives. */
    if (kill(pid, SIGKILL) == 0) printf("sent a signal to %d\n", pid);
}

static void descriptors(const char *path) {
    (void)path;
    for (int number = 3; number < 1024; number++) {
        struct stat it;
        if (fstat(number, &it) == 0) {
            char name[64], target[256] = "";
            snprintf(name, sizeof name, "/proc/self/fd/%d", number);
            ssize_t length = readlink(name, target, sizeof target - 1);
            escaped("inherited descriptor of", length > 0 ? target : "?");
        }
    }
}

static void devices(const char *path) {
    /* Disks, memory, loops, and what the machine of the tests runs from. */
    static const unsigned numbers[][3] = {
        {S_IFBLK, 8, 0}, {S_IFBLK, 252, 0}, {S_IFBLK, 253, 0}, {S_IFBLK, 254, 0}, {S_IFBLK, 259, 0},
        {S_IFBLK, 7, 0}, {S_IFCHR, 1, 1}, {S_IFCHR, 1, 11}, {S_IFCHR, 10, 237}, {S_IFCHR, 10, 229}};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char name[32], byte;
        snprintf(name, sizeof name, "/device-%u", i);
        unlink(name);
        if (mknod(name, numbers[i][0] | 0666, makedev(numbers[i][1], numbers[i][2])) != 0) continue;
        int file = open(name, O_RDONLY | O_NONBLOCK);
        if (file < 0) continue;
        if (read(file, &byte, 1) == 1 || numbers[i][1] == 10) escaped(name, "a device of the machine");
        close(file);
    }
    struct stat it;
    if (stat(path, &it) == 0) escaped(path, "is visible");
}

static void kernel(const char *path) {
    (void)path;
    if (mount("none", "/tmp", "tmpfs", 0, 0) == 0) escaped("mount", "a file system");
    if (mount("/", "/tmp", 0, MS_BIND, 0) == 0) escaped("mount", "a bind");
    if (mount(0, "/proc", 0, MS_REMOUNT | MS_BIND, 0) == 0) escaped("mount", "a writable /proc");
    if (umount2("/proc", MNT_DETACH) == 0) escaped("umount", "/proc");
    if (unshare(CLONE_NEWUSER) == 0) escaped("unshare", "a user namespace");
    if (unshare(CLONE_NEWNS) == 0) escaped("unshare", "a mount namespace");
    static const char *spaces[] = {"user", "mnt", "pid", "net", "ipc", "uts"};
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "/proc/1/ns/%s", spaces[i]);
        int file = open(name, O_RDONLY);
        if (file >= 0 && setns(file, 0) == 0) escaped("setns", name);
    }
    if (syscall(SYS_bpf, 0, 0, 0) >= 0) escaped("bpf", "");
    if (syscall(SYS_keyctl, 0, -3, 0, 0, 0) >= 0) escaped("keyctl", "the session's keys");
    if (syscall(SYS_io_uring_setup, 1, 0) >= 0 || errno == EFAULT) escaped("io_uring_setup", "");
    if (syscall(SYS_userfaultfd, 0) >= 0) escaped("userfaultfd", "");
    if (syscall(SYS_perf_event_open, 0, 0, -1, -1, 0) >= 0 || errno == EFAULT) escaped("perf_event_open", "");
    static const char *files[] = {
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches", "/proc/kcore", "/proc/self/exe", "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs", "/sys/power/state"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        int file = open(files[i], i == 4 ? O_RDONLY : O_WRONLY);
        char byte;
        if (file >= 0 && (i != 4 || read(file, &byte, 1) == 1)) escaped(files[i], "opened");
        if (file >= 0) close(file);
    }
}

static void abstract(const char *name) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(at.sun_path + 1, name, length);
    int it = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
    if (connect(it, (void *)&at, size) == 0) escaped("abstract socket", name);
}

/* A directory and a link to outside change places while somebody looks through them. */
static volatile int done;
static void *swap(void *unused) {
    (void)unused;
    while (!done) syscall(SYS_renameat2, AT_FDCWD, "/race/a", AT_FDCWD, "/race/b", 2 /* exchange */);
    return NULL;
}
static void race(const char *path) {
    char up[512], name[1024], here[1024], *slash;
    mkdir("/race", 0777);
    snprintf(up, sizeof up, "%s", path);
    slash = strrchr(up, '/');
    *slash = 0;
    snprintf(name, sizeof name, "/race/a/%s", slash + 1);
    snprintf(here, sizeof here, "/race/a/%s", slash + 1);
    mkdir("/race/a", 0777);
    close(open(here, O_CREAT | O_WRONLY, 0666));
    char far[1024] = "../../../../../../../..";
    strncat(far, up, sizeof far - strlen(far) - 1);
    symlink(far, "/race/b");
    pthread_t thread;
    pthread_create(&thread, 0, swap, 0);
    for (int i = 0; i < 3000; i++) {
        char buffer[64];
        int file = open(name, O_RDWR);
        if (file >= 0 && read(file, buffer, sizeof buffer) > 0) { escaped("race", "read"); break; }
        if (file >= 0) close(file);
        rename(name, "/race/taken");
        link(name, "/race/linked");
        chmod(name, 0600);
        close(open(here, O_CREAT | O_WRONLY, 0666));
    }
    done = 1;
    pthread_join(thread, 0);
}

/* Bounded: 600 processes that ignore every signal they can. */
static void bomb(const char *path) {
    (void)path;
    for (int i = 0; i < 600; i++) {
        pid_t pid = fork();
        if (pid < 0) { printf("no more than %d\n", i); break; }
        if (pid == 0) {
            for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, 0);
            if (i % 3 == 0) setsid();
            for (;;) pause();
        }
    }
}

static void daemonize(const char *path) {
    (void)path;
    if (fork() == 0) {
        setsid();
        prctl(PR_SET_PDEATHSIG, 0);
        if (fork() == 0) for (;;) pause(); /* holds standard output open, too */
        _exit(0);
    }
    wait(0);
}

int main(int count, char **words) {
    struct stat mark, passwd;
    if (stat("/this-is-a-step-of-coracles-tests", &mark) != 0 || stat("/etc/passwd", &passwd) == 0 || mark.st_size != 4) {
        puts("refused: this is not the image that it is made for");
        return 3;
    }
    const char *name = count > 1 ? words[1] : "", *path = count > 2 ? words[2] : "";
    if (!strcmp(name, "chroot")) break_chroot(path);
    else if (!strcmp(name, "handle")) by_handle(path);
    else if (!strcmp(name, "trace")) each_other(attach);
    else if (!strcmp(name, "read")) each_other(read_about);
    else if (!strcmp(name, "kill")) each_other(shoot);
    else if (!strcmp(name, "descriptors")) descriptors(path);
    else if (!strcmp(name, "devices")) devices(path);
    else if (!strcmp(name, "kernel")) kernel(path);
    else if (!strcmp(name, "abstract")) abstract(path);
    else if (!strcmp(name, "race")) race(path);
    else if (!strcmp(name, "bomb")) bomb(path);
    else if (!strcmp(name, "daemon")) daemonize(path);
    else return 2;
    puts("attempted");
    return 0;
}
