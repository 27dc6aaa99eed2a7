/* fallback_restart.c - the executor: runs the command of the settings that restarts an agent.
 *
 * In the trail first; without a trail it is not run. No shell, an environment of three names, nothing of ours open in it, a process
 * group of its own. What it writes goes to the log and the trail, its last lines at least. In time it ends by itself or its whole group is
 * killed. The decider learns of the end under the restart's id, so a result that comes after the lease was lost means nothing to it. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/utf8.h"
#include "fallback/fallback_shell.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(runs, METRIC_COUNTER, "redoubt_fallback_restarts_total", "Restarts of agents by the executor.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_fallback_restart_failures_total",
              "Restarts that ended with an error, or not in time.");

#define TAIL_MAX  1000 /* bytes of its output that are kept: the last */
#define SAFE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct restart {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    char id[FALLBACK_KEY_TEXT];
    char **argv;
    int64_t timeout_ms, began_mono_ms;
    uint64_t epoch;
    bool late;  /* its time is over: killed */
    bool ended; /* the handles are being closed */
    int handles;
    uv_process_t process;
    uv_pipe_t out, err;
    struct loop_timer limit;
    char tail[TAIL_MAX + 1];
    size_t n_tail;
    char piece[4096];
    struct restart *next;
};

#define OUTCOME(x) REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##x
#define CLASS(x)   REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_##x

static void audit(const struct restart *r, int outcome, int audit_class, const char *detail, outbox_cb done,
                  void *ctx)
{
    const struct effects_record m = {.action = "agent.restart",
                                     .agent = r->agent,
                                     .epoch = r->epoch,
                                     .key = {"restart", "program"},
                                     .value = {r->id, r->argv[0]}};
    effects_audit(r->s, &m, outcome, audit_class, detail, done, ctx);
}

static void restart_free(struct restart *r)
{
    for (size_t i = 0; r->argv && r->argv[i]; i++)
        free(r->argv[i]);
    free(r->argv);
    free(r);
}

/* Out of the service's list and the agent's hand; tells the decider if it still wants to know. */
static void tell(struct restart *r, bool ok, const char *detail)
{
    struct shell *sh = r->s->state;
    struct agent *a = sh ? shell_agent(sh, r->agent) : NULL;
    for (struct restart **at = sh ? &sh->fx.restarts : NULL; at && *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    if (!a || a->fx.restart != r)
        return;
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = !ok};
    a->fx.restart = NULL;
    snprintf(ev.key, sizeof ev.key, "%s", r->id);
    snprintf(ev.detail, sizeof ev.detail, "%s", detail);
    if (agent_decided(a))
        agent_event(a, &ev, NULL);
}

/* ---- its output ---- */

static void keep(struct restart *r, const char *data, size_t n)
{
    if (n > TAIL_MAX) {
        data += n - TAIL_MAX;
        n = TAIL_MAX;
    }
    if (r->n_tail + n > TAIL_MAX) {
        size_t over = r->n_tail + n - TAIL_MAX;
        memmove(r->tail, r->tail + over, r->n_tail - over);
        r->n_tail -= over;
    }
    memcpy(r->tail + r->n_tail, data, n);
    r->n_tail += n;
    r->tail[r->n_tail] = '\0';
}

/* In one line, fit for a log and a message. */
static const char *clean(struct restart *r)
{
    size_t from = 0, to = 0;
    while (r->n_tail > 0 && strchr(" \t\r\n", r->tail[r->n_tail - 1]))
        r->n_tail--;
    while (from < r->n_tail) {
        uint32_t code = 0;
        size_t n = utf8_next(r->tail + from, r->n_tail - from, &code);
        if (n > 0 && code >= 0x20 && code != 0x7f && !(code >= 0x80 && code < 0xa0)) {
            memmove(r->tail + to, r->tail + from, n);
            to += n;
        } else {
            r->tail[to++] = r->tail[from] == '\n' ? '|' : ' ';
        }
        from += n > 0 ? n : 1;
    }
    r->tail[to] = '\0';
    return r->tail;
}

static void on_room(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
    struct restart *r = h->data;
    (void)size;
    *buf = uv_buf_init(r->piece, sizeof r->piece);
}

static void on_output(uv_stream_t *p, ssize_t n, const uv_buf_t *buf)
{
    if (n > 0)
        keep(p->data, buf->base, (size_t)n);
    else if (n < 0)
        uv_read_stop(p);
}

/* What it wrote just before its end has not been read yet. */
static void drain(struct restart *r, uv_pipe_t *p)
{
    int fd;
    ssize_t n;
    if (uv_fileno((const uv_handle_t *)p, &fd) == 0)
        for (int i = 0; i < 64 && (n = read(fd, r->piece, sizeof r->piece)) > 0; i++)
            keep(r, r->piece, (size_t)n);
}

/* ---- the end ---- */

static void closed(struct restart *r)
{
    if (--r->handles == 0)
        restart_free(r);
}

static void on_closed(uv_handle_t *h)
{
    closed(h->data);
}

static void on_limit_closed(void *ctx)
{
    closed(ctx);
}

static void close_all(struct restart *r)
{
    r->ended = true;
    uv_close((uv_handle_t *)&r->process, on_closed);
    uv_close((uv_handle_t *)&r->out, on_closed);
    uv_close((uv_handle_t *)&r->err, on_closed);
    loop_timer_close(&r->limit, on_limit_closed);
}

static void on_exit_of(uv_process_t *p, int64_t status, int signal_no)
{
    struct restart *r = p->data;
    char detail[FALLBACK_WHY_TEXT], what[96];
    if (r->ended)
        return;
    drain(r, &r->out);
    drain(r, &r->err);
    bool ok = status == 0 && signal_no == 0 && !r->late;
    int64_t took_ms = clock_mono_ms() - r->began_mono_ms;
    if (r->late)
        snprintf(what, sizeof what, "killed, since it had not ended after %" PRId64 " ms", r->timeout_ms);
    else if (signal_no)
        snprintf(what, sizeof what, "ended by signal %d after %" PRId64 " ms", signal_no, took_ms);
    else
        snprintf(what, sizeof what, "exit status %" PRId64 " after %" PRId64 " ms", status, took_ms);
    const char *last = clean(r);
    snprintf(detail, sizeof detail, "%s%s%s", what, *last ? ": " : "", last);
    if (ok)
        log_info("agent restarted", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("detail", detail));
    else
        log_error("restart failed", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("program", r->argv[0]),
                  F_STR("why", detail));
    if (!ok)
        metric_add(&failures, 1);
    if (r->s->state)
        audit(r, ok ? OUTCOME(DONE) : OUTCOME(FAILED), CLASS(STRICT), detail, NULL, NULL);
    tell(r, ok, detail);
    close_all(r);
}

static void on_limit(void *ctx)
{
    struct restart *r = ctx;
    r->late = true;
    /* The whole group: what it has started must not do half of a restart later on. */
    if (r->process.pid > 0 && kill(-r->process.pid, SIGKILL) != 0)
        uv_process_kill(&r->process, SIGKILL);
}

/* ---- the way ---- */

/* A child that lives on must not hold our connections open: not every library closes its own on exec. */
static void close_on_exec(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *x;
    while (d && (x = readdir(d))) {
        int fd = atoi(x->d_name);
        if (fd > 2)
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (d)
        closedir(d);
}

static void start_reading(struct restart *r, uv_pipe_t *p)
{
    p->data = r;
    uv_read_start((uv_stream_t *)p, on_room, on_output);
}

static void run(struct restart *r)
{
    char agent[NAME_MAX_LEN + 32], id[FALLBACK_KEY_TEXT + 32];
    snprintf(agent, sizeof agent, "REDOUBT_AGENT=%s", r->agent);
    snprintf(id, sizeof id, "REDOUBT_RESTART_ID=%s", r->id);
    char *env[] = {(char *)"PATH=" SAFE_PATH, agent, id, NULL};
    uv_loop_t *loop = &r->s->loop.uv;
    uv_pipe_init(loop, &r->out, 0);
    uv_pipe_init(loop, &r->err, 0);
    loop_timer_init(&r->s->loop, &r->limit, on_limit, r);
    r->handles = 4;
    r->process.data = r->out.data = r->err.data = r;
    uv_stdio_container_t io[] = {{.flags = UV_IGNORE},
                                 {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r->out},
                                 {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r->err}};
    uv_process_options_t o = {.exit_cb = on_exit_of,
                              .file = r->argv[0],
                              .args = r->argv,
                              .env = env,
                              .cwd = "/",
                              .flags = UV_PROCESS_DETACHED,
                              .stdio_count = 3,
                              .stdio = io};
    close_on_exec();
    r->began_mono_ms = clock_mono_ms();
    int bad = uv_spawn(loop, &r->process, &o);
    if (bad) {
        char detail[200];
        snprintf(detail, sizeof detail, "not started: %s", uv_strerror(bad));
        metric_add(&failures, 1);
        log_error("restart failed", F_STR("agent", r->agent), F_STR("program", r->argv[0]), F_STR("why", detail));
        audit(r, OUTCOME(FAILED), CLASS(STRICT), detail, NULL, NULL);
        tell(r, false, detail);
        close_all(r);
        return;
    }
    metric_add(&runs, 1);
    start_reading(r, &r->out);
    start_reading(r, &r->err);
    loop_timer_start(&r->limit, r->timeout_ms, 0);
    log_warn("restarting an agent", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("program", r->argv[0]),
             F_INT("pid", r->process.pid));
}

static void on_audited(void *ctx, int status, const char *error)
{
    struct restart *r = ctx;
    struct shell *sh = r->s->state;
    struct agent *a = sh ? shell_agent(sh, r->agent) : NULL;
    char detail[300] = "";
    if (!a || a->fx.restart != r)
        snprintf(detail, sizeof detail, "the service ends, or the agent left the settings");
    else if (!agent_decided(a) || strcmp(a->f.doc.restart_id, r->id) != 0)
        snprintf(detail, sizeof detail, "it is not asked for any more");
    else if (status != 0)
        snprintf(detail, sizeof detail, "not run, since the audit trail cannot be written: %.200s", error);
    if (!*detail) {
        run(r);
        return;
    }
    if (sh)
        audit(r, OUTCOME(REFUSED), CLASS(CONTINUITY), detail, NULL, NULL);
    tell(r, false, detail);
    restart_free(r);
}

static char **copy_command(const struct conf_list *command)
{
    char **argv = calloc(command->n + 1, sizeof *argv);
    for (size_t i = 0; argv && i < command->n; i++)
        if (!(argv[i] = strdup(*CONF_AT(*command, char *, i))))
            abort();
    if (!argv)
        abort(); /* the decider waits for the end */
    return argv;
}

/* It was not even begun: the decider learns so, later, since it is in the middle of carrying out. */
static void on_refused(void *ctx)
{
    struct restart *r = ctx;
    struct agent *a = r->s->state ? shell_agent(r->s->state, r->agent) : NULL;
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = true};
    snprintf(ev.key, sizeof ev.key, "%s", r->id);
    snprintf(ev.detail, sizeof ev.detail, "%s", r->tail);
    if (a && agent_decided(a))
        agent_event(a, &ev, NULL);
    restart_free(r);
}

void restart_start(struct agent *a, const struct fallback_effect *e)
{
    const struct set_restart *set = &a->set->resources.restart;
    if (a->fx.restart && strcmp(a->fx.restart->id, e->key) == 0)
        return; /* under way */
    struct restart *r = calloc(1, sizeof *r);
    if (!r)
        abort(); /* the decider waits for its end */
    r->s = a->sh->s;
    r->epoch = a->f.doc.epoch;
    r->timeout_ms = set->timeout_ms;
    r->argv = copy_command(&set->command);
    snprintf(r->agent, sizeof r->agent, "%s", a->name);
    snprintf(r->id, sizeof r->id, "%s", e->key);
    if (!r->argv[0] || a->fx.restart) {
        snprintf(r->tail, sizeof r->tail, "%s",
                 a->fx.restart ? "an earlier restart has not ended yet" : "no command is set");
        loop_defer(&a->sh->s->loop, on_refused, r);
        return;
    }
    r->next = a->sh->fx.restarts;
    a->sh->fx.restarts = r;
    a->fx.restart = r;
    audit(r, OUTCOME(INTENDED), CLASS(STRICT), a->f.doc.reason, on_audited, r);
}

/* The service ends; what runs goes on by itself, and whoever acts for the agent next takes its end for unknown. */
void restarts_close(struct shell *sh)
{
    for (struct restart *r = sh->fx.restarts, *next; r; r = next) {
        next = r->next;
        if (r->handles > 0 && !r->ended)
            close_all(r);
    }
    sh->fx.restarts = NULL;
}
