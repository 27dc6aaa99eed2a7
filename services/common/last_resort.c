/* last_resort.c - an alert as a line in a file and as a signed call. */
#include "common/last_resort.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/webhook_sign.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_BYTES_MAX (4 << 20) /* that wait for the disk */
#define AT_ONCE         4         /* calls under way */
#define TIMEOUT_MS      10000     /* of one */
#define PAUSE_MS        1000      /* before the second try; four times that before the third */
#define SAY_MS          10000     /* one line in the log in this time, of each kind */

METRIC_DEFINE(told, METRIC_COUNTER, "redoubt_last_resort_total", "Alerts that went the last way.");
METRIC_DEFINE(unwritten, METRIC_COUNTER, "redoubt_last_resort_unwritten_total",
              "Alerts that could not be written to the file of the last resort.");
METRIC_DEFINE(called, METRIC_COUNTER, "redoubt_last_resort_calls_total",
              "Alerts that the webhook of the last resort has taken.");
METRIC_DEFINE(uncalled, METRIC_COUNTER, "redoubt_last_resort_uncalled_total",
              "Alerts that the webhook of the last resort has not taken, or for which too many waited.");

struct line {
    struct line *next;
    size_t len;
    char text[];
};
struct writing {
    uv_work_t work;
    struct last_resort *x;
    char path[1024];
    struct line *lines;
    int64_t n;
    char error[160];
};
struct post {
    struct last_resort *x;
    struct post *prev, *next;
    struct http_call *call; /* NULL: waits */
    struct loop_timer pause;
    bool paused, over;
    int tries;
    char id[80], *url;
    bool signs;
    struct webhook_key key;
    size_t len;
    char body[];
};
struct last_resort {
    struct loop *l;
    char path[1024];
    struct line *first, **last;
    size_t bytes;
    bool writes;
    struct http *http;           /* made by the first call */
    struct post *posts, *newest; /* oldest first */
    size_t n_posts, n_calling;
    struct log_limit say_file, say_post, say_told;
    bool closing, http_closing;
    struct loop_timer limit;
    bool limit_closing;
    loop_cb done;
    void *done_ctx;
};

static void settle(struct last_resort *x);

static void complain(struct log_limit *limit, const char *what, const char *why)
{
    uint64_t held = 0;
    if (log_allowed(limit, clock_mono_ms(), SAY_MS, &held))
        log_error(what, F_STR("why", why), F_INT("held_back", held));
}

/* ---- the file, on a thread of libuv's ---- */

static bool write_all(int fd, const struct line *l)
{
    for (; l; l = l->next)
        for (size_t at = 0; at < l->len;) {
            ssize_t n = write(fd, l->text + at, l->len - at);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return false;
            at += (size_t)n;
        }
    return true;
}

static void write_lines(uv_work_t *work)
{
    struct writing *w = work->data;
    struct stat st;
    char before[sizeof w->path + 2];
    snprintf(before, sizeof before, "%s.1", w->path);
    if (stat(w->path, &st) == 0 && st.st_size >= LAST_RESORT_FILE_MAX)
        (void)rename(w->path, before); /* if not, it grows: better than not to write */
    int fd = open(w->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    char end = '\n';
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (ok && st.st_size > 0 && pread(fd, &end, 1, st.st_size - 1) == 1 && end != '\n')
        ok = write(fd, "\n", 1) == 1; /* a line that was cut short stays by itself */
    ok = ok && write_all(fd, w->lines) && fsync(fd) == 0;
    if (!ok)
        snprintf(w->error, sizeof w->error, "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* ---- the file, on the loop ---- */

static void on_written(uv_work_t *work, int status)
{
    struct writing *w = work->data;
    struct last_resort *x = w->x;
    (void)status;
    if (*w->error) {
        metric_add(&unwritten, w->n);
        complain(&x->say_file, "the file of the last resort cannot be written", w->error);
    }
    for (struct line *l = w->lines, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    free(w);
    x->writes = false;
    settle(x);
}

static void write_waiting(struct last_resort *x)
{
    struct writing *w = x->writes || !x->first ? NULL : calloc(1, sizeof *w);
    if (!w)
        return; /* with the next line */
    w->work.data = w;
    w->x = x;
    w->lines = x->first;
    for (const struct line *l = x->first; l; l = l->next)
        w->n++;
    snprintf(w->path, sizeof w->path, "%s", x->path);
    if (uv_queue_work(&x->l->uv, &w->work, write_lines, on_written)) {
        free(w);
        return;
    }
    x->writes = true;
    x->first = NULL;
    x->last = &x->first;
    x->bytes = 0;
}

static void put_line(struct last_resort *x, const char *text, size_t len)
{
    struct line *l = x->bytes + len <= LINES_BYTES_MAX ? malloc(sizeof *l + len + 1) : NULL;
    if (!l) {
        metric_add(&unwritten, 1);
        complain(&x->say_file, "the file of the last resort cannot be written", "too much waits for the disk");
        return;
    }
    *l = (struct line){.len = len + 1};
    memcpy(l->text, text, len);
    l->text[len] = '\n';
    *x->last = l;
    x->last = &l->next;
    x->bytes += len;
}

/* ---- the webhook ---- */

static void post_gone(void *ctx)
{
    struct post *p = ctx;
    struct last_resort *x = p->x;
    if (p->prev)
        p->prev->next = p->next;
    else
        x->posts = p->next;
    if (p->next)
        p->next->prev = p->prev;
    else
        x->newest = p->prev;
    x->n_posts--;
    sodium_memzero(&p->key, sizeof p->key);
    free(p->url);
    free(p);
    settle(x);
}

static void post_end(struct post *p)
{
    p->over = true;
    loop_timer_close(&p->pause, post_gone);
}

static void on_pause_over(void *ctx)
{
    struct post *p = ctx;
    p->paused = false;
    settle(p->x);
}

static void on_answer(void *ctx, const struct http_result *r)
{
    struct post *p = ctx;
    struct last_resort *x = p->x;
    bool answered = r->fault == HTTP_OK;
    p->call = NULL;
    x->n_calling--;
    if (answered && r->status >= 200 && r->status <= 299) {
        metric_add(&called, 1);
        post_end(p);
        return;
    }
    bool again = !answered || r->status >= 500 || r->status == 408 || r->status == 429;
    if (again && p->tries < LAST_RESORT_TRIES && !x->closing) {
        p->paused = true;
        loop_timer_start(&p->pause, p->tries == 1 ? PAUSE_MS : 4 * PAUSE_MS, 0);
        return;
    }
    char why[128];
    if (answered)
        snprintf(why, sizeof why, "HTTP %d", r->status);
    else
        snprintf(why, sizeof why, "%s", r->error);
    metric_add(&uncalled, 1);
    complain(&x->say_post, "the webhook of the last resort does not take an alert", why);
    post_end(p);
}

static void call(struct post *p)
{
    struct last_resort *x = p->x;
    struct webhook_headers signed_;
    char id[128], timestamp[96], signature[128];
    webhook_headers(p->signs ? &p->key : NULL, p->id, clock_wall_ms() / 1000, p->body, p->len, &signed_);
    snprintf(id, sizeof id, "%s", signed_.id);
    snprintf(timestamp, sizeof timestamp, "%s", signed_.timestamp);
    snprintf(signature, sizeof signature, "%s", signed_.signature);
    const char *headers[] = {"Content-Type: application/json", id, timestamp, p->signs ? signature : NULL, NULL};
    struct http_request r = {.method = "POST",
                             .url = p->url,
                             .headers = headers,
                             .body = p->body,
                             .body_len = p->len,
                             .timeout_ms = TIMEOUT_MS,
                             .max_response = 4096};
    p->tries++;
    x->n_calling++;
    p->call = http_start(x->http, &r, NULL, on_answer, p);
}

static void put_post(struct last_resort *x, const struct last_resort_alert *a, const char *text, size_t len)
{
    struct err e = {"out of memory"};
    struct post *p = x->n_posts < LAST_RESORT_POSTS_MAX && !x->closing ? calloc(1, sizeof *p + len + 1) : NULL;
    if (p)
        p->url = strdup(a->url);
    bool ok = p && p->url;
    if (ok && *a->secret) {
        ok = webhook_key_read(a->secret, &p->key, &e) == 0;
        p->signs = true;
    }
    if (ok && !x->http)
        ok = (x->http = http_open(x->l, &e)) != NULL;
    if (!ok) {
        metric_add(&uncalled, 1);
        complain(&x->say_post, "the webhook of the last resort is not called",
                 x->n_posts >= LAST_RESORT_POSTS_MAX ? "too many calls wait; the file has them all" : e.text);
        if (p)
            free(p->url);
        free(p);
        return;
    }
    p->x = x;
    p->len = len;
    memcpy(p->body, text, len);
    snprintf(p->id, sizeof p->id, "%s", a->id);
    loop_timer_init(x->l, &p->pause, on_pause_over, p);
    p->prev = x->newest;
    if (p->prev)
        p->prev->next = p;
    else
        x->posts = p;
    x->newest = p;
    x->n_posts++;
}

/* ---- both ---- */

static void closed(void *ctx)
{
    struct last_resort *x = ctx;
    loop_cb done = x->done;
    void *done_ctx = x->done_ctx;
    free(x);
    if (done)
        done(done_ctx);
}

static void on_http_closed(void *ctx)
{
    struct last_resort *x = ctx;
    x->http = NULL;
    settle(x);
}

static void close_when_idle(struct last_resort *x)
{
    if (!x->closing || x->writes || x->n_posts > 0)
        return;
    if (x->http) {
        if (!x->http_closing)
            http_close(x->http, on_http_closed, x);
        x->http_closing = true;
    } else if (!x->limit_closing) {
        x->limit_closing = true;
        loop_timer_close(&x->limit, closed);
    }
}

static void settle(struct last_resort *x)
{
    write_waiting(x);
    for (struct post *p = x->posts; p && x->n_calling < AT_ONCE; p = p->next)
        if (!p->call && !p->paused && !p->over)
            call(p);
    close_when_idle(x);
}

struct last_resort *last_resort_open(struct loop *l, const char *dir)
{
    struct last_resort *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->l = l;
    x->last = &x->first;
    snprintf(x->path, sizeof x->path, "%s/%s", dir, LAST_RESORT_FILE);
    return x;
}

void last_resort_tell(struct last_resort *x, const struct last_resort_alert *a)
{
    char time[CLOCK_TEXT_MAX];
    json_t *alert = json_loads(a->alert, 0, NULL);
    json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o*}", "at", clock_text(clock_wall_ms(), time), "service",
                             a->service, "instance", a->instance, "id", a->id, "why", a->why, "alert", alert);
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    metric_add(&told, 1);
    complain(&x->say_told, "an alert goes the last way", a->why);
    if (text) {
        put_line(x, text, strlen(text));
        if (*a->url)
            put_post(x, a, text, strlen(text));
    } else {
        metric_add(&unwritten, 1);
        complain(&x->say_file, "the file of the last resort cannot be written", "out of memory");
    }
    free(text);
    json_decref(line);
    settle(x);
}

/* The time is over: calls under way are cut off, the others not begun. */
static void on_limit(void *ctx)
{
    struct last_resort *x = ctx;
    for (struct post *p = x->posts, *next; p; p = next) {
        next = p->next;
        if (p->call) {
            http_cancel(p->call);
        } else if (!p->over) {
            metric_add(&uncalled, 1);
            post_end(p);
        }
    }
    settle(x);
}

void last_resort_close(struct last_resort *x, int64_t timeout_ms, loop_cb done, void *ctx)
{
    if (!x) {
        if (done)
            done(ctx);
        return;
    }
    x->closing = true;
    x->done = done;
    x->done_ctx = ctx;
    loop_timer_init(x->l, &x->limit, on_limit, x);
    loop_timer_start(&x->limit, timeout_ms, 0);
    for (struct post *p = x->posts; p; p = p->next) /* no pause any more: now or never */
        if (p->paused) {
            p->paused = false;
            loop_timer_stop(&p->pause);
        }
    settle(x);
}
