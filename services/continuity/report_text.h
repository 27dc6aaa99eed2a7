/* report_text.h - the text of a report as it grows, and how what others have written stands in it: cleaned, cut, escaped. Pure but for memory. */
#ifndef REDOUBT_CONTINUITY_REPORT_TEXT_H
#define REDOUBT_CONTINUITY_REPORT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct report_text {
    char *s; /* NUL-terminated once anything was added; free() it */
    size_t n, room;
    bool failed; /* memory is out: what is there is not whole */
};
void report_add(struct report_text *t, const char *s);
void report_addf(struct report_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_add_n(struct report_text *t, const char *s, size_t n);

/* Texts of others: one line each; what steers a terminal or turns the direction of writing is left out, bytes that are no UTF-8 become U+FFFD. At most
 * `max` bytes of them, then an ellipsis. */
void report_html(struct report_text *t, const char *s, size_t max); /* for contents and attribute values */
void report_md(struct report_text *t, const char *s, size_t max);   /* for running text and cells of tables */
void report_csv(struct report_text *t, const char *s,
                bool first); /* a cell of RFC 4180; no program takes it for a formula */
/* The same with its lines: what a person has written at length. */
void report_html_lines(struct report_text *t, const char *s, size_t max);

/* `2 h 05 min`, `12.4 s`, `350 ms`, `3 d 4 h`. */
#define REPORT_TIME_MAX 48
const char *report_took(int64_t ms, char buf[static REPORT_TIME_MAX]);
/* `2026-11-26 13:05:01` and `13:05:01`, UTC; an em dash for 0. */
const char *report_when(int64_t unix_ms, char buf[static REPORT_TIME_MAX]);
const char *report_clock(int64_t unix_ms, char buf[static REPORT_TIME_MAX]);
/* `1,234,567` */
const char *report_number(uint64_t n, char buf[static REPORT_TIME_MAX]);

#endif
