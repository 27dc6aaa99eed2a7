/* alert_text.c - an alert in words for people. */
#include "alert/alert_text.h"
#include "common/clock.h"
#include "common/utf8.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *alert_text_severity(const PB(Alert) * a)
{
    return wire_enum_name(&redoubt__v1__severity__descriptor, (int)a->severity);
}

const char *alert_text_failure(const PB(Alert) * a)
{
    return a->failure_kind ? wire_enum_name(&redoubt__v1__failure_kind__descriptor, (int)a->failure_kind) : "";
}

static bool control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

const char *alert_text_title(const PB(Alert) * a, char buf[static ALERT_TITLE_MAX])
{
    snprintf(buf, ALERT_TITLE_MAX, "[%s] %s", a->resolved ? "RESOLVED" : alert_text_severity(a), a->summary);
    for (char *p = buf; *p; p++)
        if (control((unsigned char)*p))
            *p = ' ';
    buf[alert_text_cut(buf, ALERT_TITLE_MAX, ALERT_TITLE_MAX)] = 0; /* snprintf may have cut a code point */
    return buf;
}

static void line(FILE *f, const char *name, const char *value)
{
    if (*value)
        fprintf(f, "%-12s %s\n", name, value);
}

static void time_line(FILE *f, const char *name, int64_t unix_ms)
{
    char text[CLOCK_TEXT_MAX];
    if (unix_ms > 0)
        line(f, name, clock_text(unix_ms, text));
}

const char *alert_text_headline(const struct alert_message *m, char buf[static ALERT_TITLE_MAX])
{
    return alert_text_title(m->alerts[0], buf);
}

char *alert_text_body(const struct alert_message *m)
{
    const PB(Alert) *a = m->alerts[0];
    const char *note = m->note;
    char *text = NULL, title[ALERT_TITLE_MAX];
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    fprintf(f, "%s\n\n", alert_text_title(a, title));
    if (a->resolved)
        fputs("This problem is over.\n\n", f);
    if (a->manual_intervention_required)
        fputs("MANUAL INTERVENTION REQUIRED: automation stands still until a person decides.\n\n", f);
    if (*a->detail)
        fprintf(f, "%s\n\n", a->detail);
    if (a->n_actions_taken) {
        fputs("Actions taken:\n", f);
        for (size_t i = 0; i < a->n_actions_taken; i++)
            fprintf(f, "  - %s\n", a->actions_taken[i]);
        fputc('\n', f);
    }
    line(f, "severity", alert_text_severity(a));
    line(f, "failure", alert_text_failure(a));
    line(f, "agent", a->agent);
    line(f, "target", a->target);
    line(f, "source", a->source);
    for (size_t i = 0; i < a->n_labels; i++)
        line(f, a->labels[i]->key, a->labels[i]->value);
    time_line(f, "evidence", a->evidence_unix_ms);
    time_line(f, "raised", a->raised_unix_ms);
    line(f, "problem", a->dedup_key);
    line(f, "alert", a->id);
    if (note && *note)
        line(f, "note", note);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

size_t alert_text_cut(const char *s, size_t max_chars, size_t max_bytes)
{
    size_t len = strlen(s), at = 0;
    for (size_t chars = 0; at < len && chars < max_chars; chars++) {
        uint32_t code;
        size_t n = utf8_next(s + at, len - at, &code);
        if (n == 0 || at + n > max_bytes)
            break;
        at += n;
    }
    return at;
}

const char *alert_text_clean(const char *in, char *out, size_t size)
{
    size_t len = strlen(in), at = 0, n = 0;
    while (at < len) {
        uint32_t code;
        size_t step = utf8_next(in + at, len - at, &code);
        bool good = step > 0 && !control((unsigned char)in[at]);
        size_t width = good ? step : 1;
        if (n + width >= size)
            break;
        if (good)
            memcpy(out + n, in + at, width);
        else
            out[n] = step > 0 ? ' ' : '?';
        n += width;
        at += step > 0 ? step : 1;
    }
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = 0;
    return out;
}
