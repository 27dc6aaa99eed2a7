/* alert_text.h - an alert in words for people; the same words on every channel. Pure. */
#ifndef REDOUBT_ALERT_TEXT_H
#define REDOUBT_ALERT_TEXT_H

#include "alert/alert_message.h"
#include "common/wire.h"
#include <stddef.h>
#include <stdint.h>

#define ALERT_TITLE_MAX 640
/* One line: "[HIGH] summary", "[RESOLVED] summary". Control characters become blanks. Returns buf. */
const char *alert_text_title(const PB(Alert) * a, char buf[static ALERT_TITLE_MAX]);
/* The same of a message: that of its alert, or "[CRITICAL] " and what it is. */
const char *alert_text_headline(const struct alert_message *m, char buf[static ALERT_TITLE_MAX]);
/* All that is known, one line each. malloc'ed, NULL if memory is out. */
char *alert_text_body(const struct alert_message *m);
/* "HIGH", "LLM_OUTAGE"; "" if not said. */
const char *alert_text_severity(const PB(Alert) * a);
const char *alert_text_failure(const PB(Alert) * a);

/* What another side has said, as one line of text: valid UTF-8 without control characters, cut to size. Returns out. */
const char *alert_text_clean(const char *in, char *out, size_t size);

/* Longest prefix of s that holds at most max_chars code points and max_bytes bytes, in bytes. */
size_t alert_text_cut(const char *s, size_t max_chars, size_t max_bytes);

#endif
