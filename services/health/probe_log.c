/* probe_log.c - a log file, followed: from its end on, across rotation, in small bites.
 *
 * The happy path: the file that is open is read to its end, a bite per turn of the loop -> its lines are matched and counted -> the
 * path still names the same file -> judged. If the path names another one (rotated by renaming), the rest of the old one is read first,
 * then the new one from its beginning; if the file is shorter than what was read or begins otherwise (copied and truncated), it is
 * read from its beginning. A file that is not there is a fault, but a rotation in progress is over before `fall` probes. */
#include "common/clock.h"
#include "common/match.h"
#include "common/metric.h"
#include "health/health_log.h"
#include "health/health_probe.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BITE      16384             /* read per turn of the loop: other work goes in between */
#define MEAL      (4 * 1024 * 1024) /* read per probe; a log that grows faster is looked at in part */
#define HEAD      64                /* bytes by which the beginning of a file is known */
#define TURNS_MAX 8                 /* files that one probe goes on to */

METRIC_DEFINE(lines_seen, METRIC_COUNTER, "redoubt_log_lines_total", "Lines of logs that were looked at.");
METRIC_DEFINE(skipped, METRIC_COUNTER, "redoubt_log_skipped_bytes_total",
              "Bytes of logs that were not looked at, because they came faster than they are read.");
METRIC_DEFINE(too_dear, METRIC_COUNTER, "redoubt_log_matches_given_up_total",
              "Matches given up because the pattern takes too many steps on that line; counted as no match.");

struct memory {
    char *path;
    struct health_log_rule rule;
    struct match *matches[HEALTH_LOG_PATTERNS_MAX];
    char *names[HEALTH_LOG_PATTERNS_MAX];
    char broken[HEALTH_DETAIL_MAX]; /* a pattern that is none */
    bool looked;                    /* once: a file that is there from then on is read from its beginning */
    int fd;                         /* -1 = none */
    dev_t dev;
    ino_t ino;
    off_t at;
    unsigned char head[HEAD];
    size_t head_len;
    struct health_log log;
    struct health_lines lines;
};
struct run {
    struct loop *loop;
    struct health_probe_conf *conf;
    health_probe_done done;
    void *ctx;
    bool cancelled;
    int64_t began_ms;
    size_t eaten;
    int turns;
    struct health_result r;
};

/* ---- memory ---- */

static void forget(struct health_probe_conf *conf)
{
    struct memory *m = conf->memory;
    conf->memory = NULL;
    if (!m)
        return;
    for (size_t i = 0; i < HEALTH_LOG_PATTERNS_MAX; i++) {
        match_free(m->matches[i]);
        free(m->names[i]);
    }
    if (m->fd >= 0)
        close(m->fd);
    free(m->path);
    free(m);
}

/* The settings are still those that the memory was made for. A reload makes new objects of the same content. */
static bool fits(const struct memory *m, const struct set_probe *set)
{
    if (strcmp(m->path, set->path) != 0 || m->rule.window_ms != set->window_ms || m->rule.n != set->patterns.n)
        return false;
    for (size_t i = 0; i < m->rule.n; i++)
        if (strcmp(m->names[i], CONF_AT(set->patterns, struct set_log_pattern, i)->match) != 0)
            return false;
    return true;
}

static struct memory *make(const struct set_probe *set)
{
    struct memory *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->fd = -1;
    m->rule.window_ms = set->window_ms;
    m->rule.n = set->patterns.n < HEALTH_LOG_PATTERNS_MAX ? set->patterns.n : HEALTH_LOG_PATTERNS_MAX;
    health_log_init(&m->log, clock_mono_ms());
    bool ok = (m->path = strdup(set->path)) != NULL;
    for (size_t i = 0; i < m->rule.n && ok; i++) {
        const struct set_log_pattern *p = CONF_AT(set->patterns, struct set_log_pattern, i);
        struct err e = {""};
        ok = (m->names[i] = strdup(p->match)) != NULL;
        if (!(m->matches[i] = match_compile(p->match, MATCH_TEXT, &e)))
            snprintf(m->broken, sizeof m->broken, "pattern %.30s: %.70s", p->match, e.text);
    }
    if (!ok)
        forget(&(struct health_probe_conf){.memory = m});
    return ok ? m : NULL;
}

static struct memory *remember(struct health_probe_conf *conf)
{
    struct memory *m = conf->memory;
    if (!m || !fits(m, conf->set)) {
        forget(conf);
        conf->memory = m = make(conf->set);
    }
    if (m) {
        m->rule.quiet_ms = conf->set->quiet_ms;
        for (size_t i = 0; i < m->rule.n; i++)
            m->rule.most[i] = (uint32_t)CONF_AT(conf->set->patterns, struct set_log_pattern, i)->most;
    }
    return m;
}

/* ---- lines ---- */

static void on_line(void *ctx, const char *line, size_t len)
{
    struct memory *m = ctx;
    int64_t now_ms = clock_mono_ms();
    metric_add(&lines_seen, 1);
    health_log_line(&m->log, now_ms);
    for (size_t i = 0; i < m->rule.n; i++) {
        enum match_result x = m->matches[i] ? match_run(m->matches[i], line, len) : MATCH_NO;
        if (x == MATCH_LIMIT)
            metric_add(&too_dear, 1);
        if (x == MATCH_YES)
            health_log_match(&m->log, &m->rule, i, line, len, now_ms);
    }
}

/* ---- the file ---- */

static void let_go(struct memory *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
    m->at = 0;
    m->head_len = 0;
}

/* Opens what the path names now. At the very first look from its end, later from its beginning. */
static int take_up(struct memory *m, struct err *e)
{
    struct stat st;
    int fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool first = !m->looked;
    m->looked = true;
    if (fd < 0 || fstat(fd, &st) < 0) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return err_set(e, "%.60s: %s", m->path, strerror(why));
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(e, "%.60s is not a file that can be followed", m->path);
    }
    let_go(m);
    m->fd = fd;
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    m->at = first ? st.st_size : 0;
    return 0;
}

static bool is_same_file(const struct memory *m, const struct stat *st)
{
    return st->st_dev == m->dev && st->st_ino == m->ino;
}

/* Truncated: shorter than what was read, or, if it has grown again since, of another beginning. */
static void look_for_truncation(struct memory *m)
{
    struct stat st;
    unsigned char head[HEAD];
    if (fstat(m->fd, &st) < 0)
        return;
    size_t want = (size_t)(m->at < HEAD ? m->at : HEAD);
    ssize_t n = pread(m->fd, head, want, 0);
    size_t same = n < 0 ? 0 : (size_t)n < m->head_len ? (size_t)n : m->head_len;
    bool other = n >= 0 && (same < m->head_len || memcmp(head, m->head, same) != 0);
    if (st.st_size < m->at || other) {
        health_lines_end(&m->lines, on_line, m);
        m->at = 0;
        m->head_len = 0;
    } else if (n > 0 && (size_t)n > m->head_len) {
        memcpy(m->head, head, (size_t)n);
        m->head_len = (size_t)n;
    }
}

/* One bite. True if there may be more. */
static bool bite(struct run *x, struct memory *m)
{
    char data[BITE];
    ssize_t n = pread(m->fd, data, sizeof data, m->at);
    if (n <= 0)
        return false;
    m->at += n;
    x->eaten += (size_t)n;
    health_lines_feed(&m->lines, data, (size_t)n, on_line, m);
    return true;
}

/* Comes faster than it is read: the newest is worth more than the oldest. */
static void skip(struct memory *m)
{
    struct stat st;
    if (fstat(m->fd, &st) < 0 || st.st_size - m->at <= BITE)
        return;
    metric_add(&skipped, st.st_size - BITE - m->at);
    m->at = st.st_size - BITE;
    health_lines_reset(&m->lines); /* the line that is met there is cut in front: it is looked at as it is */
}

/* ---- the probe ---- */

static void finish(struct run *x)
{
    x->r.total_ms = (uint32_t)(clock_mono_ms() - x->began_ms);
    if (x->cancelled)
        x->r.fault = HEALTH_FAULT_CANCELLED;
    x->done(x->ctx, &x->r);
    free(x);
}

static void fail(struct run *x, const char *why)
{
    x->r.fault = HEALTH_FAULT_CONNECT;
    health_detail(&x->r, "%s", why);
    finish(x);
}

static void judge(struct run *x, struct memory *m)
{
    if (*m->broken) {
        x->r.fault = HEALTH_FAULT_SCHEMA;
        health_detail(&x->r, "%s", m->broken);
    } else {
        health_log_judge(&m->log, &m->rule, (const char *const *)m->names, clock_mono_ms(), &x->r);
    }
    finish(x);
}

static void on_turn(void *ctx)
{
    struct run *x = ctx;
    struct err e = {""};
    struct memory *m = x->cancelled || !x->conf->set ? NULL : remember(x->conf);
    struct stat st;
    if (!m) {
        x->cancelled = true;
        finish(x);
        return;
    }
    if (m->fd < 0 && take_up(m, &e) < 0) {
        fail(x, e.text);
        return;
    }
    look_for_truncation(m);
    if (x->eaten >= MEAL)
        skip(m);
    if (x->eaten < MEAL + 2 * BITE && bite(x, m)) {
        loop_defer(x->loop, on_turn, x);
        return;
    }
    /* At its end. Is it still the one that is written to? */
    if (stat(m->path, &st) < 0) {
        err_set(&e, "%.60s: %s", m->path, strerror(errno));
        fail(x, e.text); /* still open: what is written to it yet is read at the next probe */
    } else if (!is_same_file(m, &st) && ++x->turns < TURNS_MAX) {
        health_lines_end(&m->lines, on_line, m);
        if (take_up(m, &e) < 0)
            fail(x, e.text);
        else
            loop_defer(x->loop, on_turn, x);
    } else {
        judge(x, m);
    }
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    struct run *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    *x = (struct run){.loop = env->loop, .conf = conf, .done = done, .ctx = ctx, .began_ms = clock_mono_ms()};
    x->r.probe = HEALTH_PROBE_LOG;
    loop_defer(env->loop, on_turn, x);
    return x;
}

static void cancel(void *run)
{
    ((struct run *)run)->cancelled = true;
}

const struct health_probe health_probe_log = {
    .kind = HEALTH_PROBE_LOG, .local = true, .start = start, .cancel = cancel, .forget = forget};
