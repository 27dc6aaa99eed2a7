/* program.c - runs a program without a shell: spawn, feed, read, wait, and make an end of it.
 *
 * By posix_spawn(), which does not copy this process's page tables: libuv 1.44 forks, and of a process of 120 MB that is 10 ms of the loop. */
#include "common/program.h"
#include "common/utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAFE_PATH  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define OUTPUT_MAX (64 * 1024)
#define TAIL_MAX   2048
#define FIRST_MAX  255
#define DRAIN_MAX  256 /* pieces: as much as a pipe may hold, at most */
#define REAP_MS    50

struct program {
    struct loop *loop;
    program_done done;
    void *ctx;
    char **argv, **env;
    void *input;
    uv_signal_t child; /* some child has ended: is it this one? */
    uv_pipe_t in, out, err;
    uv_write_t write;
    struct loop_timer limit;
    int handles;  /* not yet closed */
    pid_t group;  /* 0 = nothing was started */
    bool dropped; /* done does not come */
    bool exited;
    bool merge, cut, leave;
    enum program_end end; /* PROGRAM_EXITED until something else is known */
    int64_t timeout_ms, began_ms;
    char *text;
    size_t len, room, max;
    char first[FIRST_MAX + 1];
    size_t n_first;
    bool first_whole;
    char tail[TAIL_MAX + 1];
    size_t n_tail;
    char said[TAIL_MAX + 256];
    char piece[4096];
};

/* ---- memory ---- */

static void texts_free(char **a)
{
    for (size_t i = 0; a && a[i]; i++)
        free(a[i]);
    free(a);
}

static size_t texts_count(const char *const *a)
{
    size_t n = 0;
    while (a && a[n])
        n++;
    return n;
}

/* Of both, one behind the other; each may be NULL. */
static char **texts_copy(const char *const *first, const char *const *more)
{
    size_t n = texts_count(first), all = n + texts_count(more);
    char **a = calloc(all + 1, sizeof *a);
    for (size_t i = 0; a && i < all; i++) {
        const char *text = i < n ? first[i] : more ? more[i - n] : "";
        if (!(a[i] = strdup(text))) {
            texts_free(a);
            return NULL;
        }
    }
    return a;
}

static void program_free(struct program *p)
{
    texts_free(p->argv);
    texts_free(p->env);
    free(p->input);
    free(p->text);
    free(p);
}

static void closed_one(void *ctx)
{
    struct program *p = ctx;
    if (--p->handles == 0)
        program_free(p);
}

static void on_closed(uv_handle_t *h)
{
    closed_one(h->data);
}

static void close_one(uv_handle_t *h)
{
    if (!uv_is_closing(h))
        uv_close(h, on_closed);
}

static void close_all(struct program *p)
{
    close_one((uv_handle_t *)&p->child);
    close_one((uv_handle_t *)&p->in);
    close_one((uv_handle_t *)&p->out);
    close_one((uv_handle_t *)&p->err);
    loop_timer_close(&p->limit, closed_one);
}

/* ---- what it says ---- */

static void keep_tail(struct program *p, const char *data, size_t n)
{
    for (size_t i = 0; i < n && !p->first_whole; i++) {
        if (data[i] == '\n')
            p->first_whole = p->n_first > 0;
        else if (p->n_first < FIRST_MAX)
            p->first[p->n_first++] = data[i];
    }
    if (n > TAIL_MAX) {
        data += n - TAIL_MAX;
        n = TAIL_MAX;
    }
    if (p->n_tail + n > TAIL_MAX) {
        size_t over = p->n_tail + n - TAIL_MAX;
        memmove(p->tail, p->tail + over, p->n_tail - over);
        p->n_tail -= over;
    }
    memcpy(p->tail + p->n_tail, data, n);
    p->n_tail += n;
}

static void kill_group(struct program *p)
{
    if (p->group > 0 && kill(-p->group, SIGKILL) != 0 && !p->exited)
        (void)kill(p->group, SIGKILL);
}

static void too_much(struct program *p)
{
    if (p->end == PROGRAM_EXITED)
        p->end = PROGRAM_TOO_MUCH;
    kill_group(p);
}

static void keep_output(struct program *p, const char *data, size_t n)
{
    if (p->len + n > p->max) {
        if (!p->cut) {
            too_much(p);
            return;
        }
        n = p->max - p->len;
    }
    if (p->len + n + 1 > p->room) {
        size_t room = (p->len + n + 1) * 2;
        char *more = realloc(p->text, room);
        if (!more) {
            too_much(p);
            return;
        }
        p->text = more;
        p->room = room;
    }
    memcpy(p->text + p->len, data, n);
    p->len += n;
}

static void keep(struct program *p, const uv_pipe_t *from, const char *data, size_t n)
{
    if (from == &p->err || p->merge)
        keep_tail(p, data, n);
    else
        keep_output(p, data, n);
}

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct program *p = h->data;
    (void)suggested;
    *buf = uv_buf_init(p->piece, sizeof p->piece);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct program *p = s->data;
    if (n < 0)
        uv_read_stop(s);
    else if (n > 0)
        keep(p, (uv_pipe_t *)s, buf->base, (size_t)n);
}

/* What it wrote just before its end has not been read yet. Who else holds the pipe is not waited for. */
static void drain(struct program *p, const uv_pipe_t *pipe)
{
    int fd;
    ssize_t n;
    if (uv_is_closing((const uv_handle_t *)pipe) || uv_fileno((const uv_handle_t *)pipe, &fd) != 0)
        return;
    for (int i = 0; i < DRAIN_MAX && (n = read(fd, p->piece, sizeof p->piece)) > 0; i++)
        keep(p, pipe, p->piece, (size_t)n);
}

/* In one line, fit for a log and a message. */
static void clean(struct program *p)
{
    size_t from = 0, to = 0;
    while (p->n_tail > 0 && strchr(" \t\r\n", p->tail[p->n_tail - 1]))
        p->n_tail--;
    /* The tail may begin inside a character. */
    while (p->n_tail == TAIL_MAX && from < 4 && ((unsigned char)p->tail[from] & 0xc0) == 0x80)
        from++;
    while (from < p->n_tail) {
        uint32_t code = 0;
        size_t n = utf8_next(p->tail + from, p->n_tail - from, &code);
        if (n > 0 && code >= 0x20 && code != 0x7f && !(code >= 0x80 && code < 0xa0)) {
            memmove(p->tail + to, p->tail + from, n);
            to += n;
        } else {
            p->tail[to++] = p->tail[from] == '\n' ? '|' : ' ';
        }
        from += n > 0 ? n : 1;
    }
    p->n_tail = to;
    p->tail[to] = '\0';
}

/* ---- the end ---- */

static void say(struct program *p, int code)
{
    char what[200];
    switch (p->end) {
    case PROGRAM_EXITED:
        snprintf(what, sizeof what, "ended with %d", code);
        break;
    case PROGRAM_SIGNALLED:
        snprintf(what, sizeof what, "ended by signal %d", code);
        break;
    case PROGRAM_TIMEOUT:
        snprintf(what, sizeof what, "killed, since it had not ended after %" PRId64 " ms", p->timeout_ms);
        break;
    case PROGRAM_TOO_MUCH:
        snprintf(what, sizeof what, "killed, since it said more than %zu bytes", p->max);
        break;
    case PROGRAM_CANCELLED:
        snprintf(what, sizeof what, "killed, since it is not wanted any more");
        break;
    default:
        return; /* said already */
    }
    snprintf(p->said, sizeof p->said, "%s%s%s", what, p->n_tail ? ": " : "", p->tail);
}

static void tell(struct program *p, int code)
{
    clean(p);
    say(p, code);
    if (p->text)
        p->text[p->len] = '\0';
    p->first[p->n_first] = '\0';
    struct program_result r = {.end = p->end,
                               .code = code,
                               .out = p->text ? p->text : "",
                               .out_len = p->len,
                               .err = p->tail,
                               .first = p->first,
                               .text = p->said,
                               .took_ms = clock_mono_ms() - p->began_ms};
    p->dropped = true; /* whatever the callback does with it */
    p->done(p->ctx, &r);
    close_all(p);
}

static void on_child(uv_signal_t *s, int signum)
{
    struct program *p = s->data;
    int status = 0;
    (void)signum;
    if (p->dropped || p->exited || waitpid(p->group, &status, WNOHANG) != p->group)
        return;
    int signal_no = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    p->exited = true;
    if (!p->leave || p->end != PROGRAM_EXITED)
        kill_group(p);
    drain(p, &p->out);
    drain(p, &p->err);
    if (p->end == PROGRAM_EXITED && signal_no)
        p->end = PROGRAM_SIGNALLED;
    tell(p, signal_no ? signal_no : WEXITSTATUS(status));
}

static void on_limit(void *ctx)
{
    struct program *p = ctx;
    if (p->dropped)
        return;
    if (p->group == 0) { /* never started: the end that comes later */
        tell(p, 0);
        return;
    }
    if (p->end == PROGRAM_EXITED)
        p->end = PROGRAM_TIMEOUT;
    kill_group(p); /* its exit says the rest */
}

void program_cancel(struct program *p)
{
    if (!p || p->dropped || p->group == 0)
        return;
    p->end = PROGRAM_CANCELLED;
    kill_group(p);
}

/* One that was killed is gone at once, unless it hangs in the kernel: then it stays as a zombie until this process ends. */
static void reap(const struct program *p)
{
    for (int i = 0; i < REAP_MS && waitpid(p->group, NULL, WNOHANG) == 0; i++)
        (void)usleep(1000);
}

void program_drop(struct program *p, bool kill_it)
{
    if (!p || p->dropped)
        return;
    p->dropped = true;
    if (kill_it && p->group > 0) {
        kill_group(p);
        if (!p->exited)
            reap(p);
    }
    close_all(p);
}

int program_pid(const struct program *p)
{
    return p->group;
}

/* ---- the start ---- */

struct ends { /* of a pipe; -1 = none */
    int ours, childs;
};

static void on_written(uv_write_t *w, int status)
{
    struct program *p = w->data;
    (void)status; /* it need not read */
    close_one((uv_handle_t *)&p->in);
}

/* One end for us, that does not wait, and one for the child; none of them is inherited, or one of the three that the child gets. */
static int make_pipe(struct ends *e, bool we_read)
{
    int fd[2];
    if (pipe2(fd, O_CLOEXEC))
        return errno;
    for (int i = 0; i < 2; i++) {
        int old = fd[i];
        if (old > STDERR_FILENO)
            continue;
        fd[i] = fcntl(old, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        int bad = errno;
        (void)close(old);
        if (fd[i] < 0) {
            (void)close(fd[!i]);
            return bad;
        }
    }
    *e = (struct ends){.ours = fd[!we_read], .childs = fd[we_read]};
    return 0;
}

/* The child gets three descriptors and nothing else: it must not hold our connections open. */
static int actions_of(posix_spawn_file_actions_t *a, const struct ends *io)
{
    int bad = 0;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && !bad; fd++)
        bad = io[fd].childs >= 0 ? posix_spawn_file_actions_adddup2(a, io[fd].childs, fd)
                                 : posix_spawn_file_actions_addopen(a, fd, "/dev/null", O_RDWR, 0);
    if (!bad)
        bad = posix_spawn_file_actions_addclosefrom_np(a, STDERR_FILENO + 1);
    return bad ? bad : posix_spawn_file_actions_addchdir_np(a, "/");
}

/* A session and a group of its own, and signals as if nobody had ever touched them. */
static int attributes_of(posix_spawnattr_t *a)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int bad = posix_spawnattr_setsigdefault(a, &all);
    if (!bad)
        bad = posix_spawnattr_setsigmask(a, &none);
    return bad ? bad
               : posix_spawnattr_setflags(a, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

static int spawn_with(struct program *p, const struct ends *io)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int bad = posix_spawn_file_actions_init(&actions);
    if (bad)
        return bad;
    bad = posix_spawnattr_init(&attributes);
    if (!bad) {
        bad = actions_of(&actions, io);
        if (!bad)
            bad = attributes_of(&attributes);
        if (!bad)
            bad = posix_spawn(&p->group, p->argv[0], &actions, &attributes, p->argv, p->env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    if (bad)
        p->group = 0;
    return bad;
}

static int take_end(uv_pipe_t *pipe, struct ends *e)
{
    int bad = e->ours >= 0 ? -uv_pipe_open(pipe, e->ours) : 0;
    if (!bad)
        e->ours = -1; /* the pipe's now */
    return bad;
}

static int spawn(struct program *p)
{
    struct ends io[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
    uv_pipe_t *pipes[3] = {&p->in, &p->out, &p->err};
    /* Before the child: its end may come at once. */
    int bad = -uv_signal_start(&p->child, on_child, SIGCHLD);
    for (int i = 0; i < 3 && !bad; i++)
        if (i > 0 || p->input)
            bad = make_pipe(&io[i], i > 0);
    for (int i = 0; i < 3 && !bad; i++)
        bad = take_end(pipes[i], &io[i]);
    if (!bad)
        bad = spawn_with(p, io);
    for (int i = 0; i < 3; i++) {
        if (io[i].ours >= 0)
            (void)close(io[i].ours);
        if (io[i].childs >= 0)
            (void)close(io[i].childs);
    }
    if (bad)
        snprintf(p->said, sizeof p->said, "%.200s cannot be started: %s", p->argv[0], uv_strerror(-bad));
    return bad;
}

static struct program *make(struct loop *l, const struct program_opts *o, program_done done, void *ctx)
{
    struct program *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->argv = texts_copy(o->argv, NULL);
    p->env = texts_copy((const char *const[]){SAFE_PATH, "LANG=C.UTF-8", NULL}, o->env);
    p->input = o->input ? malloc(o->input_len + 1) : NULL;
    if (!p->argv || !p->env || (o->input && !p->input)) {
        program_free(p);
        return NULL;
    }
    if (p->input)
        memcpy(p->input, o->input, o->input_len);
    p->loop = l;
    p->done = done;
    p->ctx = ctx;
    p->merge = o->merge;
    p->cut = o->cut;
    p->leave = o->leave;
    p->timeout_ms = o->timeout_ms;
    p->max = o->max_output ? o->max_output : OUTPUT_MAX;
    p->end = PROGRAM_EXITED;
    p->began_ms = clock_mono_ms();
    uv_pipe_init(&l->uv, &p->in, 0);
    uv_pipe_init(&l->uv, &p->out, 0);
    uv_pipe_init(&l->uv, &p->err, 0);
    loop_timer_init(l, &p->limit, on_limit, p);
    uv_signal_init(&l->uv, &p->child);
    p->child.data = p->in.data = p->out.data = p->err.data = p->write.data = p;
    p->handles = 5;
    return p;
}

struct program *program_run(struct loop *l, const struct program_opts *o, program_done done, void *ctx)
{
    struct program *p = make(l, o, done, ctx);
    if (!p)
        return NULL;
    if (!program_ok(p->argv[0] ? p->argv[0] : "", p->said, sizeof p->said) || spawn(p) != 0) {
        p->end = PROGRAM_NOT_STARTED;
        loop_timer_start(&p->limit, 0, 0);
        return p;
    }
    if (p->timeout_ms > 0)
        loop_timer_start(&p->limit, p->timeout_ms, 0);
    uv_read_start((uv_stream_t *)&p->out, on_room, on_output);
    uv_read_start((uv_stream_t *)&p->err, on_room, on_output);
    uv_buf_t buf = uv_buf_init(p->input, (unsigned)o->input_len);
    if (p->input && uv_write(&p->write, (uv_stream_t *)&p->in, &buf, 1, on_written))
        close_one((uv_handle_t *)&p->in);
    return p;
}
