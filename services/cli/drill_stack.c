/* drill_stack.c - a private suite for a drill: directory, ports, processes, logs. */
#include "cli/drill_stack.h"
#include "common/clock.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARKER     "redoubt-drill-" /* of our directories: nothing else is ever removed */
#define PIDS       "pids"
#define PORT_FIRST 10240
#define PORT_LAST  65000
#define PORT_TRIES 10000
#define GONE_MS    8000 /* for a process to end after SIGTERM: services drain for 4 s and flush for 2 s */
#define REMOVE_MS  5000
#define STEP_MS    20 /* between two looks at something that ends by itself */
#define TAIL_MAX   65536

static void nap(void)
{
    (void)poll(NULL, 0, STEP_MS);
}

/* ---- files ---- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

/* Processes that are just dying may still write: tries until it is empty. */
static bool remove_dir(const char *dir)
{
    assert(strstr(dir, MARKER));
    for (int64_t until = clock_mono_ms() + REMOVE_MS;;) {
        (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        if (access(dir, F_OK) != 0)
            return true;
        if (clock_mono_ms() > until)
            return false;
        nap();
    }
}

static void join(char *buf, size_t size, const char *a, const char *b)
{
    int n = snprintf(buf, size, "%s/%s", a, b);
    assert(n > 0 && (size_t)n < size && "paths of a stack are short");
}

int drill_stack_write(const struct drill_stack *s, const char *name, const char *text, struct err *e)
{
    char path[2 * DRILL_PATH];
    join(path, sizeof path, s->dir, name);
    FILE *f = fopen(path, "we");
    bool good = f && fputs(text, f) >= 0;
    if (f && fclose(f))
        good = false;
    return good ? 0 : err_set(e, "cannot write %s: %s", path, strerror(errno));
}

/* ---- who runs: the pids file ---- */

/* When the process started, in clock ticks: with it, a pid means one process for ever. 0 = gone. */
static uint64_t started_at(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    /* The name may hold anything: fields are counted from its closing bracket. State is field 3, start time 22. */
    const char *p = strrchr(text, ')');
    if (p && (p[2] == 'Z' || p[2] == 'X'))
        return 0;
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p, NULL, 10) : 0;
}

static void record_pid(const struct drill_stack *s, const struct drill_proc *p)
{
    char path[2 * DRILL_PATH];
    join(path, sizeof path, s->dir, PIDS);
    FILE *f = fopen(path, "ae");
    if (!f)
        return;
    fprintf(f, "%d %" PRIu64 " %s\n", (int)p->pid, started_at(p->pid), p->name);
    fclose(f);
}

struct recorded {
    pid_t pid;
    uint64_t start;
    char name[32];
};

/* Those of the pids file that run still. */
static size_t read_pids(const char *dir, struct recorded *out, size_t max)
{
    char path[2 * DRILL_PATH], line[128];
    size_t n = 0;
    join(path, sizeof path, dir, PIDS);
    FILE *f = fopen(path, "re");
    while (f && n < max && fgets(line, sizeof line, f)) {
        struct recorded r = {0};
        if (sscanf(line, "%d %" SCNu64 " %31s", &r.pid, &r.start, r.name) == 3 && r.pid > 1 && r.start != 0 &&
            started_at(r.pid) == r.start)
            out[n++] = r;
    }
    if (f)
        fclose(f);
    return n;
}

/* ---- the janitor ---- */

/* Its own process: waits for the drill's end. A byte = dismissed; the end of the pipe alone = the drill was killed. */
static _Noreturn void be_janitor(const char *dir, int fd)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        (void)signal(ignored[i], SIG_IGN);
    (void)setsid();
    (void)prctl(PR_SET_NAME, "redoubt-janitor");
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        (void)dup2(null, i);
    if (fd != 3)
        fd = dup2(fd, 3);
    closefrom(4);
    char byte;
    ssize_t n;
    while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR)
        ;
    if (n > 0)
        _exit(0);
    /* The drill's children die with it; this is for one that was just being started. */
    struct recorded left[DRILL_PROCS_MAX * 4];
    size_t k = read_pids(dir, left, sizeof left / sizeof left[0]);
    for (size_t i = 0; i < k; i++)
        (void)kill(left[i].pid, SIGKILL);
    _exit(remove_dir(dir) ? 0 : 1);
}

static int hire_janitor(struct drill_stack *s, struct err *e)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return err_set(e, "no pipe: %s", strerror(errno));
    fflush(NULL);
    s->janitor = fork();
    if (s->janitor < 0)
        return err_set(e, "cannot fork: %s", strerror(errno));
    if (s->janitor == 0) {
        close(fds[1]);
        be_janitor(s->dir, fds[0]);
    }
    close(fds[0]);
    s->janitor_fd = fds[1];
    return 0;
}

/* ---- start ---- */

int drill_stack_self(char *buf, size_t size, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", buf, size - 1);
    if (n <= 0)
        return err_set(e, "cannot tell what program runs: /proc is not there");
    buf[n] = 0;
    return 0;
}

int drill_stack_open(struct drill_stack *s, const char *bin_dir, bool keep, struct err *e)
{
    static const char *const below[] = {"log", "data", "nats", "redis"};
    *s = (struct drill_stack){.keep = keep, .janitor_fd = -1};
    const char *tmp = getenv("TMPDIR");
    if (!bin_dir && drill_stack_self(s->bin, sizeof s->bin, e))
        return -1;
    if (!bin_dir)
        *strrchr(s->bin, '/') = 0;
    else if ((size_t)snprintf(s->bin, sizeof s->bin, "%s", bin_dir) >= sizeof s->bin)
        return err_set(e, "--bin-dir is too long");
    if (snprintf(s->dir, sizeof s->dir - 64, "%s/" MARKER "XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
        (int)sizeof s->dir - 64)
        return err_set(e, "$TMPDIR is too long");
    if (!mkdtemp(s->dir)) {
        int n = errno;
        err_set(e, "cannot make %s: %s", s->dir, strerror(n));
        *s->dir = 0;
        return -1;
    }
    if (!keep && hire_janitor(s, e))
        return -1;
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        char path[2 * DRILL_PATH];
        join(path, sizeof path, s->dir, below[i]);
        if (mkdir(path, 0700))
            return err_set(e, "cannot make %s: %s", path, strerror(errno));
    }
    return 0;
}

/* Bound for as long as the drill lasts, so that nobody else is given this port meanwhile: other drills bind without SO_REUSEADDR and fail.
 * Our programs and the servers do set it, and so can listen beside a socket that has it and does not. -1 when the port is not free. */
static int reserved(int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd >= 0 &&
        (bind(fd, (struct sockaddr *)&a, sizeof a) || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))) {
        close(fd);
        return -1;
    }
    return fd;
}

int drill_stack_port(struct drill_stack *s)
{
    int low = 32768, high = 60999; /* the kernel's default range for outgoing connections */
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (f) {
        if (fscanf(f, "%d %d", &low, &high) != 2)
            low = 32768, high = 60999;
        fclose(f);
    }
    if (low <= PORT_FIRST && high >= PORT_LAST) /* it leaves nothing: then any port, at a small risk */
        low = high = 0;
    /* Drawn one by one, so that drills at the same time do not meet. */
    for (int tries = 0; tries < PORT_TRIES; tries++) {
        uint32_t r;
        if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
            return -1;
        int port = PORT_FIRST + (int)(r % (PORT_LAST - PORT_FIRST));
        int fd = port >= low && port <= high ? -1 : reserved(port);
        if (fd >= 0) {
            assert(s->n_reserved < DRILL_PORTS_MAX);
            s->reserved[s->n_reserved++] = fd;
            return port;
        }
    }
    return -1;
}

static int find_program(const struct drill_stack *s, const char *program, char *buf, size_t size, struct err *e)
{
    if (strchr(program, '/')) {
        snprintf(buf, size, "%s", program);
        return access(buf, X_OK) == 0 ? 0 : err_set(e, "%s: %s", buf, strerror(errno));
    }
    const char *env = getenv("PATH");
    char path[4096];
    /* Debian keeps servers in sbin, which a plain user's PATH may lack. */
    snprintf(path, sizeof path, "%s:%s:/usr/sbin:/sbin:/usr/local/sbin", s->bin, env ? env : "/usr/bin:/bin");
    char *save = NULL;
    for (char *dir = strtok_r(path, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        if ((size_t)snprintf(buf, size, "%s/%s", dir, program) < size && access(buf, X_OK) == 0)
            return 0;
    }
    return err_set(e, "%s is neither in %s nor in PATH: build or install it (`make`, `make deps`)", program, s->bin);
}

struct drill_proc *drill_stack_define(struct drill_stack *s, const char *name, int port, const char *const *argv,
                                      struct err *e)
{
    assert(s->n < DRILL_PROCS_MAX);
    struct drill_proc *p = &s->procs[s->n];
    char path[2 * DRILL_PATH];
    if (find_program(s, argv[0], path, sizeof path, e))
        return NULL;
    *p = (struct drill_proc){.name = name, .port = port};
    for (size_t i = 0; argv[i]; i++) {
        assert(i < DRILL_ARGS_MAX);
        if (!(p->argv[i] = strdup(i == 0 ? path : argv[i])))
            abort();
    }
    s->n++;
    return p;
}

struct drill_proc *drill_stack_proc(struct drill_stack *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->procs[i].name, name) == 0)
            return &s->procs[i];
    assert(false && "a drill names only processes that it has defined");
    return NULL;
}

int drill_stack_spawn(struct drill_stack *s, struct drill_proc *p, struct err *e)
{
    char log[2 * DRILL_PATH];
    assert(p->pid == 0);
    snprintf(log, sizeof log, "%s/log/%s.log", s->dir, p->name);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out < 0)
        return err_set(e, "cannot write %s: %s", log, strerror(errno));
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        /* Only async-signal-safe calls up to exec: the drill may have threads. */
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)setsid(); /* Ctrl-C on the terminal is for the drill, which then ends all in order */
        if (!s->keep) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) /* it died before the line above */
                _exit(127);
        }
        int null = open("/dev/null", O_RDONLY);
        (void)dup2(null, 0);
        (void)dup2(out, 1);
        (void)dup2(out, 2);
        (void)close_range(3, ~0U, 0);
        (void)execv(p->argv[0], p->argv);
        _exit(127);
    }
    close(out);
    if (pid < 0)
        return err_set(e, "cannot start %s: %s", p->name, strerror(errno));
    p->pid = pid;
    p->may_end = p->ended = false;
    record_pid(s, p);
    return 0;
}

/* ---- watching ---- */

void drill_stack_signal(struct drill_proc *p, int signum)
{
    p->may_end = true;
    p->again = false;
    if (p->pid > 0)
        (void)kill(p->pid, signum);
}

void drill_stack_tell(struct drill_proc *p, int signum)
{
    if (p->pid > 0)
        (void)kill(p->pid, signum);
}

struct drill_proc *drill_stack_reap(struct drill_stack *s)
{
    struct drill_proc *surprise = NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct drill_proc *p = &s->procs[i];
        if (p->pid > 0 && waitpid(p->pid, &p->status, WNOHANG) == p->pid) {
            p->pid = 0;
            p->ended = true;
            p->end_ms = clock_mono_ms();
            struct err e;
            if (p->again && drill_stack_spawn(s, p, &e))
                p->again = false; /* then its end is a surprise */
        }
        if (p->ended && !p->may_end && !surprise)
            surprise = p;
    }
    return surprise;
}

bool drill_stack_listening(const struct drill_proc *p)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)p->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0; /* loopback answers at once */
    if (fd >= 0)
        close(fd);
    return yes;
}

void drill_stack_note_logs(struct drill_stack *s)
{
    for (size_t i = 0; i < s->n; i++) {
        char path[2 * DRILL_PATH];
        struct stat st;
        snprintf(path, sizeof path, "%s/log/%s.log", s->dir, s->procs[i].name);
        s->procs[i].log_from = stat(path, &st) == 0 ? (long)st.st_size : 0;
    }
}

bool drill_stack_log_has(const struct drill_stack *s, const struct drill_proc *p, const char *text)
{
    char path[2 * DRILL_PATH], line[16384];
    bool found = false;
    snprintf(path, sizeof path, "%s/log/%s.log", s->dir, p->name);
    FILE *f = fopen(path, "re");
    if (f && fseek(f, p->log_from, SEEK_SET) == 0)
        while (!found && fgets(line, sizeof line, f))
            found = strstr(line, text) != NULL;
    if (f)
        fclose(f);
    return found;
}

char *drill_stack_tail(const struct drill_stack *s, const char *name, size_t lines)
{
    char path[2 * DRILL_PATH];
    snprintf(path, sizeof path, "%s/log/%s.log", s->dir, name);
    FILE *f = fopen(path, "re");
    char *text = f ? calloc(1, TAIL_MAX + 1) : NULL;
    if (text) {
        if (fseek(f, -TAIL_MAX, SEEK_END))
            rewind(f);
        size_t n = fread(text, 1, TAIL_MAX, f);
        while (n > 0 && text[n - 1] == '\n')
            text[--n] = 0;
        size_t from = n;
        for (size_t left = lines; from > 0; from--)
            if (text[from - 1] == '\n' && --left == 0)
                break;
        memmove(text, text + from, n - from + 1);
    }
    if (f)
        fclose(f);
    return text;
}

const char *drill_stack_end_text(const struct drill_proc *p, char *buf, size_t size)
{
    if (!p->ended)
        snprintf(buf, size, "running");
    else if (WIFSIGNALED(p->status))
        snprintf(buf, size, "killed by signal %d", WTERMSIG(p->status));
    else
        snprintf(buf, size, "exit %d", WEXITSTATUS(p->status));
    return buf;
}

/* ---- the end ---- */

void drill_stack_close(struct drill_stack *s)
{
    if (!s->keep) {
        for (size_t i = 0; i < s->n; i++)
            drill_stack_signal(&s->procs[i], SIGKILL);
        for (size_t i = 0; i < s->n; i++)
            if (s->procs[i].pid > 0)
                (void)waitpid(s->procs[i].pid, NULL, 0);
        if (*s->dir && !remove_dir(s->dir))
            fprintf(stderr, "redoubt drill: cannot remove %s\n", s->dir);
    }
    if (s->janitor > 0) {
        /* Without the janitor nobody would read: a write that fails is no loss. */
        struct sigaction ignore = {.sa_handler = SIG_IGN}, was;
        sigaction(SIGPIPE, &ignore, &was);
        if (write(s->janitor_fd, "q", 1) == 1)
            (void)waitpid(s->janitor, NULL, 0);
        sigaction(SIGPIPE, &was, NULL);
        close(s->janitor_fd);
    }
    for (size_t i = 0; i < s->n_reserved; i++)
        close(s->reserved[i]);
    s->n_reserved = 0;
    for (size_t i = 0; i < s->n; i++)
        for (char **a = s->procs[i].argv; *a; a++)
            free(*a);
}

/* Directory of a stack that still is one, its whole path in real. 0 or -1. */
static int find_stack(const char *dir, char real[static PATH_MAX], struct err *e)
{
    char path[2 * DRILL_PATH];
    if (!realpath(dir, real))
        return err_set(e, "%s: %s", dir, strerror(errno));
    const char *last = strrchr(real, '/');
    if (strlen(real) >= DRILL_PATH || !last || strncmp(last + 1, MARKER, strlen(MARKER)) != 0)
        return err_set(e, "%s is no directory of a drill: those are named %s...", real, MARKER);
    join(path, sizeof path, real, PIDS);
    if (access(path, R_OK) != 0)
        return err_set(e, "%s: %s: this is no directory of a drill", path, strerror(errno));
    return 0;
}

int drill_stack_stop(const char *dir, struct err *e)
{
    char real[PATH_MAX];
    if (find_stack(dir, real, e))
        return -1;
    struct recorded r[DRILL_PROCS_MAX * 4];
    size_t n = read_pids(real, r, sizeof r / sizeof r[0]);
    /* The last started first: agents and services before the servers that they stand on. */
    for (size_t i = n; i > 0; i--) {
        (void)kill(r[i - 1].pid, SIGTERM);
        for (int64_t until = clock_mono_ms() + GONE_MS; started_at(r[i - 1].pid) == r[i - 1].start; nap()) {
            if (clock_mono_ms() < until)
                continue;
            (void)kill(r[i - 1].pid, SIGKILL);
        }
    }
    if (!remove_dir(real))
        return err_set(e, "cannot remove %s", real);
    return (int)n;
}

int drill_stack_restart(const char *dir, const char *name, struct err *e)
{
    char real[PATH_MAX];
    struct recorded r[DRILL_PROCS_MAX * 4], was = {0};
    if (find_stack(dir, real, e))
        return -1;
    size_t n = read_pids(real, r, sizeof r / sizeof r[0]);
    for (size_t i = 0; i < n; i++)
        if (strcmp(r[i].name, name) == 0)
            was = r[i];
    if (was.pid == 0)
        return err_set(e, "no process %s of %s runs", name, real);
    (void)kill(was.pid, SIGTERM);
    for (int64_t until = clock_mono_ms() + 2 * GONE_MS; clock_mono_ms() < until; nap()) {
        if (started_at(was.pid) == was.start) {
            if (clock_mono_ms() > until - GONE_MS)
                (void)kill(was.pid, SIGKILL);
            continue;
        }
        n = read_pids(real, r, sizeof r / sizeof r[0]);
        for (size_t i = 0; i < n; i++)
            if (strcmp(r[i].name, name) == 0)
                return 0;
    }
    return err_set(e, "%s of %s was ended, and nobody has started it again", name, real);
}
