/* health_log.h - what a log says: bytes into lines, and how often lines of a kind came within a window. Pure; bounded memory.
 * Times are monotonic milliseconds. */
#ifndef REDOUBT_HEALTH_LOG_H
#define REDOUBT_HEALTH_LOG_H

#include "health/health.h"

#define HEALTH_LINE_MAX         65536 /* of a longer line only so much is looked at */
#define HEALTH_LOG_BUCKETS      10
#define HEALTH_LOG_PATTERNS_MAX 32
#define HEALTH_LOG_EXAMPLE_MAX  96

/* ---- lines ---- */

struct health_lines {
    size_t len;
    bool cut; /* the line is longer than what is kept */
    char text[HEALTH_LINE_MAX];
};
/* line is not NUL-terminated, and has neither newline nor the carriage return before it. Empty lines come, too. */
typedef void (*health_line_fn)(void *ctx, const char *line, size_t len);
void health_lines_feed(struct health_lines *l, const char *data, size_t len, health_line_fn fn, void *ctx);
/* The file has ended for good: what has no newline is the last line. */
void health_lines_end(struct health_lines *l, health_line_fn fn, void *ctx);
/* What was begun is not the beginning of what comes next. */
void health_lines_reset(struct health_lines *l);

/* ---- windows ---- */

struct health_log_rule {
    int64_t window_ms, quiet_ms; /* quiet 0 = may be silent */
    size_t n;                    /* patterns */
    uint32_t most[HEALTH_LOG_PATTERNS_MAX];
};
struct health_log {
    int64_t at;      /* number of the newest bucket */
    int64_t line_ms; /* when the last line came, or the watching began */
    struct {
        uint32_t n[HEALTH_LOG_BUCKETS];
        char newest[HEALTH_LOG_EXAMPLE_MAX];
    } patterns[HEALTH_LOG_PATTERNS_MAX];
};
void health_log_init(struct health_log *l, int64_t now_ms);
void health_log_line(struct health_log *l, int64_t now_ms);
/* A line that matches pattern i. */
void health_log_match(struct health_log *l, const struct health_log_rule *rule, size_t i, const char *line,
                      size_t len, int64_t now_ms);
/* Fills in the fault (NONE, PATTERN, QUIET) and the detail. names: the patterns as they are written. */
void health_log_judge(struct health_log *l, const struct health_log_rule *rule, const char *const *names,
                      int64_t now_ms, struct health_result *r);

#endif
