/* health_log.c - what a log says: bytes into lines, and how often lines of a kind came within a window. */
#include "health/health_log.h"
#include <stdio.h>
#include <string.h>

/* ---- lines ---- */

void health_lines_reset(struct health_lines *l)
{
    l->len = 0;
    l->cut = false;
}

static void keep(struct health_lines *l, const char *data, size_t len)
{
    size_t room = sizeof l->text - l->len, n = len < room ? len : room;
    memcpy(l->text + l->len, data, n);
    l->len += n;
    l->cut = l->cut || n < len;
}

static void give(health_line_fn fn, void *ctx, const char *line, size_t len)
{
    if (len > 0 && line[len - 1] == '\r')
        len--;
    fn(ctx, line, len < HEALTH_LINE_MAX ? len : HEALTH_LINE_MAX);
}

void health_lines_feed(struct health_lines *l, const char *data, size_t len, health_line_fn fn, void *ctx)
{
    for (const char *end; len > 0 && (end = memchr(data, '\n', len));) {
        size_t n = (size_t)(end - data);
        if (l->len == 0 && !l->cut) {
            give(fn, ctx, data, n); /* most lines come whole: they are not copied */
        } else {
            keep(l, data, n);
            give(fn, ctx, l->text, l->len);
            health_lines_reset(l);
        }
        data += n + 1;
        len -= n + 1;
    }
    if (len > 0)
        keep(l, data, len);
}

void health_lines_end(struct health_lines *l, health_line_fn fn, void *ctx)
{
    if (l->len > 0)
        give(fn, ctx, l->text, l->len);
    health_lines_reset(l);
}

/* ---- windows ---- */

void health_log_init(struct health_log *l, int64_t now_ms)
{
    memset(l, 0, sizeof *l);
    l->line_ms = now_ms;
}

void health_log_line(struct health_log *l, int64_t now_ms)
{
    l->line_ms = now_ms;
}

static void turn(struct health_log *l, const struct health_log_rule *rule, int64_t now_ms)
{
    int64_t span_ms = rule->window_ms / HEALTH_LOG_BUCKETS, at = now_ms / (span_ms > 0 ? span_ms : 1);
    bool all = at < l->at || at - l->at >= HEALTH_LOG_BUCKETS;
    for (size_t i = 0; i < HEALTH_LOG_PATTERNS_MAX; i++) {
        if (all)
            memset(l->patterns[i].n, 0, sizeof l->patterns[i].n);
        for (int64_t b = l->at + 1; !all && b <= at; b++)
            l->patterns[i].n[b % HEALTH_LOG_BUCKETS] = 0;
    }
    l->at = at;
}

void health_log_match(struct health_log *l, const struct health_log_rule *rule, size_t i, const char *line,
                      size_t len, int64_t now_ms)
{
    turn(l, rule, now_ms);
    uint32_t *n = &l->patterns[i].n[l->at % HEALTH_LOG_BUCKETS];
    *n += *n < UINT32_MAX / HEALTH_LOG_BUCKETS;
    /* A NUL would end the text here; health_detail() cleans the rest of what a line may hold. */
    size_t most = sizeof l->patterns[i].newest - 1, k = len < most ? len : most;
    for (size_t c = 0; c < k; c++)
        l->patterns[i].newest[c] = line[c] ? line[c] : ' ';
    l->patterns[i].newest[k] = 0;
}

void health_log_judge(struct health_log *l, const struct health_log_rule *rule, const char *const *names,
                      int64_t now_ms, struct health_result *r)
{
    turn(l, rule, now_ms);
    r->fault = HEALTH_FAULT_NONE;
    for (size_t i = 0; i < rule->n && i < HEALTH_LOG_PATTERNS_MAX; i++) {
        uint32_t n = 0;
        for (int b = 0; b < HEALTH_LOG_BUCKETS; b++)
            n += l->patterns[i].n[b];
        if (n <= rule->most[i])
            continue;
        r->fault = HEALTH_FAULT_PATTERN;
        health_detail(r, "%u lines like %.24s, newest: %s", n, names[i], l->patterns[i].newest);
        return;
    }
    if (rule->quiet_ms > 0 && now_ms - l->line_ms >= rule->quiet_ms) {
        r->fault = HEALTH_FAULT_QUIET;
        health_detail(r, "no line for %.0f s; %.0f s are allowed", (double)(now_ms - l->line_ms) / 1000,
                      (double)rule->quiet_ms / 1000);
    }
}
