/* log.c - one line per event on stderr, in one write(2). */
#include "common/log.h"
#include "common/clock.h"
#include "common/utf8.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A pipe takes PIPE_BUF bytes in one piece, so lines of several processes never mix. */
#define LINE_MAX_BYTES PIPE_BUF
#define VALUE_MAX      1024 /* of a string; what is longer is cut and ends with "..." */
#define TAIL_MAX       16   /* room kept for ` cut=true` and the end of the line */

static _Atomic int level_now = LOG_LEVEL_INFO;
static _Atomic int format_now = LOG_FORMAT_LOGFMT;
static const char *_Atomic service_name = "redoubt";
static pthread_mutex_t instance_lock = PTHREAD_MUTEX_INITIALIZER;
static char instance_name[128];

struct line {
    size_t n;
    bool json;
    bool full;
    char buf[LINE_MAX_BYTES];
};

void log_init(const char *service, enum log_level level, enum log_format format)
{
    atomic_store(&service_name, service);
    atomic_store(&level_now, (int)level);
    atomic_store(&format_now, (int)format);
}

void log_instance(const char *instance)
{
    pthread_mutex_lock(&instance_lock);
    snprintf(instance_name, sizeof instance_name, "%s", instance ? instance : "");
    pthread_mutex_unlock(&instance_lock);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&level_now, memory_order_relaxed);
}

static void put(struct line *l, const char *s, size_t n)
{
    if (l->full || l->n + n > sizeof l->buf - TAIL_MAX) {
        l->full = true;
        return;
    }
    memcpy(l->buf + l->n, s, n);
    l->n += n;
}

static void put_text(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static bool control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0); /* C1 too: terminals obey them */
}

/* Letters of both formats' common short escapes, 0 if there is none. */
static char short_escape(uint32_t c)
{
    return c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c == '"' || c == '\\' ? (char)c : 0;
}

static void put_escaped(struct line *l, const char *s)
{
    size_t len = strnlen(s, VALUE_MAX + 1);
    bool cut = len > VALUE_MAX;
    if (cut)
        len = VALUE_MAX;
    for (size_t at = 0; at < len;) {
        uint32_t c;
        char e[16];
        size_t n = utf8_next(s + at, len - at, &c);
        if (n == 0) {
            if (cut && at + 4 > len)
                break; /* the cut went through a code point */
            if (l->json)
                put_text(l, "\\ufffd");
            else
                put(l, e, (size_t)snprintf(e, sizeof e, "\\x%02x", (unsigned char)s[at]));
            n = 1;
        } else if (short_escape(c)) {
            put(l, (char[]){'\\', short_escape(c)}, 2);
        } else if (control(c)) {
            put(l, e, (size_t)snprintf(e, sizeof e, "\\u%04x", (unsigned)c));
        } else {
            put(l, s + at, n);
        }
        at += n;
    }
    if (cut)
        put_text(l, "...");
}

static bool plain(const char *s)
{
    if (!*s)
        return false;
    size_t len = strnlen(s, VALUE_MAX + 1);
    if (len > VALUE_MAX || utf8_valid_until(s, len) != len)
        return false;
    for (size_t at = 0; at < len;) {
        uint32_t c;
        at += utf8_next(s + at, len - at, &c);
        if (c == ' ' || c == '=' || short_escape(c) || control(c))
            return false;
    }
    return true;
}

static void put_key(struct line *l, const char *key)
{
    if (l->json) {
        put_text(l, l->n > 1 ? ",\"" : "\"");
        put_escaped(l, key);
        put_text(l, "\":");
    } else {
        if (l->n > 0)
            put_text(l, " ");
        put_text(l, key);
        put_text(l, "=");
    }
}

static void put_str(struct line *l, const char *key, const char *value)
{
    put_key(l, key);
    if (!value)
        value = "";
    if (!l->json && plain(value)) {
        put_text(l, value);
        return;
    }
    put_text(l, "\"");
    put_escaped(l, value);
    put_text(l, "\"");
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[40];
    size_t start = l->n;
    if (f->kind == LOG_FIELD_STR) {
        put_str(l, f->key, f->str);
    } else if (f->kind == LOG_FIELD_INT) {
        put_key(l, f->key);
        put(l, number, (size_t)snprintf(number, sizeof number, "%" PRId64, f->i));
    } else {
        put_key(l, f->key);
        if (isfinite(f->d))
            put(l, number, (size_t)snprintf(number, sizeof number, "%.6g", f->d));
        else
            put_text(l, l->json ? "null" : "nan");
    }
    if (l->full)
        l->n = start; /* half a field would break the line: it goes whole, and the end says so */
}

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno; /* a log line must not change what the caller looks at next */
    struct line l = {.json = atomic_load(&format_now) == LOG_FORMAT_JSON};
    char time[CLOCK_TEXT_MAX], instance[sizeof instance_name];
    pthread_mutex_lock(&instance_lock);
    memcpy(instance, instance_name, sizeof instance);
    pthread_mutex_unlock(&instance_lock);

    if (l.json)
        put_text(&l, "{");
    put_str(&l, "ts", clock_text(clock_wall_ms(), time));
    put_str(&l, "level", level_names[level]);
    put_str(&l, "service", atomic_load(&service_name));
    if (instance[0])
        put_str(&l, "instance", instance);
    put_field(&l, &F_STR("event", event));
    for (; fields->kind != LOG_FIELD_END && !l.full; fields++)
        put_field(&l, fields);
    if (l.full) {
        l.full = false;
        const char *cut = l.json ? ",\"cut\":true" : " cut=true";
        memcpy(l.buf + l.n, cut, strlen(cut));
        l.n += strlen(cut);
    }
    if (l.json)
        l.buf[l.n++] = '}';
    l.buf[l.n++] = '\n';
    ssize_t n;
    do {
        n = write(STDERR_FILENO, l.buf, l.n);
    } while (n < 0 && errno == EINTR);
    /* There is nowhere to report that stderr is gone. */
    errno = saved_errno;
}

bool log_allowed(struct log_limit *l, int64_t now_mono_ms, int64_t every_ms, uint64_t *ret_held)
{
    if (l->next_mono_ms != 0 && now_mono_ms < l->next_mono_ms) {
        l->held++;
        return false;
    }
    if (ret_held)
        *ret_held = l->held;
    l->held = 0;
    l->next_mono_ms = now_mono_ms + every_ms;
    return true;
}
