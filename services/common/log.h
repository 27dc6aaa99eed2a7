/* log.h - one line per event on stderr, logfmt or JSON. Never a secret: values of secret settings never get here. */
#ifndef REDOUBT_LOG_H
#define REDOUBT_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

/* `service` is kept by reference. May be called again (reload). Thread-safe: a line is one write(2). */
void log_init(const char *service, enum log_level level, enum log_format format);
void log_instance(const char *instance); /* adds instance=... to each line; copied */
bool log_enabled(enum log_level level);

/* A field of a line. Made by the macros below only. */
struct log_field {
    const char *key;
    enum { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_DBL } kind;
    const char *str;
    int64_t i;
    double d;
};
#define F_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define F_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .i = (int64_t)(v)})
#define F_DBL(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_DBL, .d = (double)(v)})

/* `event` is a short constant text ("breaker opened"). Fields end with a zero field. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);
#define LOG_FIELDS_MAX            16 /* of one line, with the one that ends them */
#define LOG_AT(level, event, ...) log_write((level), (event), (struct log_field[LOG_FIELDS_MAX]){__VA_ARGS__})
#define log_debug(event, ...)     LOG_AT(LOG_LEVEL_DEBUG, event, ##__VA_ARGS__)
#define log_info(event, ...)      LOG_AT(LOG_LEVEL_INFO, event, ##__VA_ARGS__)
#define log_warn(event, ...)      LOG_AT(LOG_LEVEL_WARN, event, ##__VA_ARGS__)
#define log_error(event, ...)     LOG_AT(LOG_LEVEL_ERROR, event, ##__VA_ARGS__)

/* Holds back repeats: true for the first call and then once per `every_ms`, with the number held back since in
 * *ret_held (may be NULL). One per kind of message and sender; zero-initialise. */
struct log_limit {
    int64_t next_mono_ms;
    uint64_t held;
};
bool log_allowed(struct log_limit *l, int64_t now_mono_ms, int64_t every_ms, uint64_t *ret_held);

#endif
