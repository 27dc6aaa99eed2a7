/* harness.c - real programs for tests and benches. */
#include "harness.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_MIN   10000
#define PORT_MAX   32000 /* outgoing connections take 32,768 and more: a client could meet itself there */
#define POLL_MS    5
#define START_MS   20000 /* sanitised and under valgrind everything is slow */
#define STOP_MS    10000
#define START_TRY  5 /* times with another port, if someone else was faster */
#define EXEC_FAILS 127

struct harness {
    char dir[128];
    int alive_fd; /* closed by our end, however it comes: the watcher then removes the directory */
    pid_t watcher;
    bool keep;
    struct harness_proc *procs;
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("harness: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap(void)
{
    (void)poll(NULL, 0, POLL_MS);
}

bool harness_until(bool (*fn)(void *ctx), void *ctx, int64_t timeout_ms)
{
    int64_t end = now_ms() + timeout_ms;
    while (!fn(ctx)) {
        if (now_ms() >= end)
            return false;
        nap();
    }
    return true;
}

/* ---- ports ---- */

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("no socket: %s", strerror(errno));
    return fd;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A port that is given out stays bound, without listening, as long as this program runs: so no other test is given it meanwhile, since that one
 * binds without SO_REUSEADDR. Whoever serves on it sets SO_REUSEADDR, as servers do, and may. */
int harness_free_port(void)
{
    static int held[4096];
    static size_t n_held;
    for (int i = 0; i < 1000; i++) {
        uint32_t r;
        if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
            die("no randomness: %s", strerror(errno));
        int port = PORT_MIN + (int)(r % (PORT_MAX - PORT_MIN));
        struct sockaddr_in a = loopback(port);
        int fd = tcp_socket(), one = 1;
        if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0) {
            if (n_held < sizeof held / sizeof held[0])
                held[n_held++] = fd;
            else
                close(fd);
            return port;
        }
        close(fd);
    }
    die("no free port on 127.0.0.1 between %d and %d", PORT_MIN, PORT_MAX);
}

static bool port_open(int port)
{
    struct sockaddr_in a = loopback(port);
    int fd = tcp_socket();
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return ok;
}

/* ---- the directory ---- */

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path) && errno != ENOENT;
}

static void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void start_watcher(struct harness *h)
{
    static const char script[] = "trap '' INT TERM HUP QUIT; cat >/dev/null\n"
                                 "while [ -e \"$1\" ]; do rm -rf -- \"$1\" 2>/dev/null || sleep 0.1; done";
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        die("no pipe: %s", strerror(errno));
    h->watcher = fork();
    if (h->watcher < 0)
        die("cannot fork: %s", strerror(errno));
    if (h->watcher == 0) {
        int null_fd = open("/dev/null", O_WRONLY);
        dup2(fds[0], STDIN_FILENO);
        dup2(null_fd, STDOUT_FILENO);
        dup2(null_fd, STDERR_FILENO);
        execl("/bin/sh", "sh", "-c", script, "sh", h->dir, (char *)NULL);
        _exit(EXEC_FAILS);
    }
    close(fds[0]);
    h->alive_fd = fds[1];
}

struct harness *harness_open(void)
{
    struct harness *h = calloc(1, sizeof *h);
    if (!h)
        die("out of memory");
    const char *keep = getenv("KEEP"), *tmp = getenv("TMPDIR");
    h->keep = keep && *keep && strcmp(keep, "0") != 0;
    h->alive_fd = -1;
    if ((size_t)snprintf(h->dir, sizeof h->dir, "%s/redoubt-test-XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
        sizeof h->dir)
        die("TMPDIR is too long: %s", tmp);
    if (!mkdtemp(h->dir))
        die("cannot make %s: %s", h->dir, strerror(errno));
    if (h->keep)
        fprintf(stderr, "harness: keeping %s\n", h->dir);
    else
        start_watcher(h);
    return h;
}

void harness_close(struct harness *h)
{
    if (!h)
        return;
    for (struct harness_proc *p = h->procs; p; p = p->next)
        harness_kill(p);
    if (!h->keep) {
        remove_tree(h->dir);
        close(h->alive_fd);
        while (waitpid(h->watcher, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    while (h->procs) {
        struct harness_proc *p = h->procs;
        h->procs = p->next;
        for (char **a = p->argv; *a; a++)
            free(*a);
        free(p->argv);
        free((char *)p->name);
        free(p);
    }
    free(h);
}

const char *harness_dir(const struct harness *h)
{
    return h->dir;
}

/* ---- programs ---- */

static bool reaped(struct harness_proc *p, int options, int *ret_status)
{
    int status = 0;
    pid_t r;
    while ((r = waitpid(p->pid, &status, options)) < 0 && errno == EINTR) {
    }
    if (r == 0)
        return false;
    *ret_status = r > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    p->pid = 0;
    return true;
}

bool harness_alive(struct harness_proc *p)
{
    int status;
    return p->pid && !reaped(p, WNOHANG, &status);
}

/* Between fork and exec of a process with threads: only calls that are safe in a signal handler. */
static void child(const char *log, char **argv, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXEC_FAILS);
    int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0)
        _exit(EXEC_FAILS);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], argv);
    _exit(EXEC_FAILS);
}

/* Starts it and waits for its port. False if it ended before. */
static bool try_start(struct harness_proc *p)
{
    char log[sizeof p->data + 8];
    snprintf(log, sizeof log, "%s.log", p->data);
    if (mkdir(p->data, 0700) && errno != EEXIST)
        die("cannot make %s: %s", p->data, strerror(errno));
    pid_t self = getpid();
    p->pid = fork();
    if (p->pid < 0)
        die("cannot fork: %s", strerror(errno));
    if (p->pid == 0)
        child(log, p->argv, self);
    for (int64_t end = now_ms() + START_MS; now_ms() < end; nap()) {
        int status;
        if (reaped(p, WNOHANG, &status)) {
            if (status == EXEC_FAILS)
                die("cannot run %s: is it installed?", p->argv[0]);
            return false;
        }
        if (!p->port || port_open(p->port))
            return true;
    }
    die("%s does not open port %d within %d ms; see %s (KEEP=1)", p->name, p->port, START_MS, log);
}

void harness_start(struct harness_proc *p)
{
    if (harness_alive(p))
        die("%s runs already", p->name);
    if (!try_start(p))
        die("%s ended at once; see its log (KEEP=1)", p->name);
}

void harness_kill(struct harness_proc *p)
{
    int status;
    if (!harness_alive(p))
        return;
    kill(p->pid, SIGKILL);
    reaped(p, 0, &status);
}

int harness_stop(struct harness_proc *p)
{
    int status = -1;
    if (!p->pid || reaped(p, WNOHANG, &status))
        return status;
    kill(p->pid, SIGTERM);
    for (int64_t end = now_ms() + STOP_MS; now_ms() < end; nap())
        if (reaped(p, WNOHANG, &status))
            return status;
    harness_kill(p);
    return -1;
}

/* The signal is on its way when kill() returns; a thread on another core may still answer. */
static bool stands_still(pid_t pid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return true;
    const char *end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    return !end || end[1] != ' ' || end[2] == 'T';
}

void harness_freeze(struct harness_proc *p)
{
    if (!harness_alive(p))
        return;
    kill(p->pid, SIGSTOP);
    for (int i = 0; i < 1000 && !stands_still(p->pid); i++)
        usleep(1000);
}

void harness_thaw(struct harness_proc *p)
{
    if (p->pid)
        kill(p->pid, SIGCONT);
}

void harness_forget(struct harness_proc *p)
{
    if (harness_alive(p))
        die("%s still runs: its data cannot go", p->name);
    remove_tree(p->data);
}

static struct harness_proc *add(struct harness *h, const char *name, int port, const char *scheme)
{
    struct harness_proc *p = calloc(1, sizeof *p);
    if (!p || !(p->name = strdup(name)))
        die("out of memory");
    p->h = h;
    p->port = port;
    snprintf(p->url, sizeof p->url, "%s://127.0.0.1:%d", scheme, port);
    if ((size_t)snprintf(p->data, sizeof p->data, "%s/%s", h->dir, name) >= sizeof p->data)
        die("name too long: %s", name);
    p->next = h->procs;
    h->procs = p;
    return p;
}

/* argv = head, then tail (may be NULL). */
static void set_argv(struct harness_proc *p, const char *const *head, const char *const *tail)
{
    size_t n = 0;
    for (size_t i = 0; head[i]; i++)
        n++;
    for (size_t i = 0; tail && tail[i]; i++)
        n++;
    p->argv = calloc(n + 1, sizeof *p->argv);
    if (!p->argv)
        die("out of memory");
    n = 0;
    for (size_t i = 0; head[i]; i++)
        p->argv[n++] = strdup(head[i]);
    for (size_t i = 0; tail && tail[i]; i++)
        p->argv[n++] = strdup(tail[i]);
}

struct harness_proc *harness_run_later(struct harness *h, const char *name, int port, const char *const *argv)
{
    struct harness_proc *p = add(h, name, port, "tcp");
    set_argv(p, argv, NULL);
    return p;
}

struct harness_proc *harness_run(struct harness *h, const char *name, int port, const char *const *argv)
{
    struct harness_proc *p = harness_run_later(h, name, port, argv);
    harness_start(p);
    return p;
}

struct harness_proc *harness_nats_later(struct harness *h, const char *name, const char *conf)
{
    struct harness_proc *p = add(h, name, harness_free_port(), "nats");
    char path[sizeof p->data + 8];
    snprintf(path, sizeof path, "%s.conf", p->data);
    FILE *f = fopen(path, "we");
    if (!f)
        die("cannot write %s: %s", path, strerror(errno));
    fprintf(f, "listen: \"127.0.0.1:%d\"\njetstream { store_dir: \"%s\", max_file_store: 64GB }\n%s\n", p->port,
            p->data, conf ? conf : "");
    if (fclose(f))
        die("cannot write %s: %s", path, strerror(errno));
    const char *argv[] = {"nats-server", "-c", path, NULL};
    set_argv(p, argv, NULL);
    return p;
}

struct harness_proc *harness_redis_later(struct harness *h, const char *name, const char *const *args)
{
    struct harness_proc *p = add(h, name, harness_free_port(), "redis");
    char port[16];
    snprintf(port, sizeof port, "%d", p->port);
    const char *argv[] = {"redis-server", "--port", port, "--bind",       "127.0.0.1", "--dir",
                          p->data,        "--save", "",   "--appendonly", "no",        NULL};
    set_argv(p, argv, args);
    return p;
}

/* A program whose port someone else took in the meantime is made anew with another one. */
static void forget_proc(struct harness_proc *p)
{
    p->h->procs = p->next;
    for (char **a = p->argv; *a; a++)
        free(*a);
    free(p->argv);
    free((char *)p->name);
    free(p);
}

struct harness_proc *harness_nats(struct harness *h, const char *name, const char *conf)
{
    for (int i = 0; i < START_TRY; i++) {
        struct harness_proc *p = harness_nats_later(h, name, conf);
        if (try_start(p))
            return p;
        forget_proc(p);
    }
    die("nats-server %s ends at once; see its log (KEEP=1)", name);
}

struct harness_proc *harness_redis(struct harness *h, const char *name, const char *const *args)
{
    for (int i = 0; i < START_TRY; i++) {
        struct harness_proc *p = harness_redis_later(h, name, args);
        if (try_start(p))
            return p;
        forget_proc(p);
    }
    die("redis-server %s ends at once; see its log (KEEP=1)", name);
}

const char *harness_localhost(void)
{
    struct addrinfo *list = NULL;
    bool known = getaddrinfo("localhost", NULL, NULL, &list) == 0;
    if (known)
        freeaddrinfo(list);
    return known ? "localhost" : "127.0.0.1";
}
